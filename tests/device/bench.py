"""A bin on the bench: what outlives a wake, and a device of fakes made from it for each boot. Runs on both Pythons."""

from brim.core.faults import SensorFault
from brim.links import Exchange
from brim.wire.report import decode_report

DEV = bytes([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77])


class PowerCut(BaseException):
    """Not an Exception: no handler of the firmware may swallow it."""


class Flash:
    """The outbox file in memory; `broken` makes every call fail."""

    def __init__(self):
        self.data = b""
        self.broken = False

    def _check(self):
        if self.broken:
            raise OSError(5)

    def size(self):
        self._check()
        return len(self.data)

    def read(self, offset, size):
        self._check()
        return self.data[offset : offset + size]

    def append(self, data):
        self._check()
        self.data += data

    def replace(self, head, keep_from, tail):
        self._check()
        self.data = head + self.data[keep_from:] + tail


class Bench:
    """The world around one bin. `cut_at` counts calls into it that change something; at that call the power goes."""

    def __init__(self):
        self.now_ms = 5000
        self.rtc = b""
        self.nvs = {}
        self.settings = "{}"
        self.flash = Flash()
        self.echoes = [812] * 5
        self.tilted = False
        self.battery_mv = 3600
        self.celsius = 12
        self.lines = []
        self.link = Link(self)
        self.events = []
        self.kill_at = None

    def step(self, what):
        """Something outside changed. The process dies after the step whose number is kill_at."""
        self.events.append(what)
        if self.kill_at is not None and len(self.events) == self.kill_at:
            raise PowerCut()

    def boot(self, cold=False):
        return Device(self, cold)

    def sleep(self, seconds):
        self.now_ms += 1000 * seconds

    def power_cut(self):
        """RTC memory is gone and the clock begins again."""
        self.rtc = b"\xa5" * 2048
        self.now_ms = 0

    def log_of(self, word):
        return [line for line in self.lines if line.startswith(word + " ")]


class Part:
    def __init__(self, bench):
        self.bench = bench


class Clock(Part):
    def ticks_ms(self):
        return self.bench.now_ms & 0x3FFFFFFF

    def ticks_us(self):
        return self.bench.now_ms * 1000 & 0x3FFFFFFF

    def sleep_ms(self, ms):
        self.bench.now_ms += ms

    def time_s(self):
        return self.bench.now_ms // 1000


class Store(Part):
    def get_int(self, key):
        if self.bench.nvs is None:
            raise OSError(5)
        return self.bench.nvs.get(key)

    def put_int(self, key, value):
        if self.bench.nvs is None:
            raise OSError(5)
        self.bench.nvs[key] = value
        self.bench.step("nvs")


class Rtc(Part):
    def load(self):
        return self.bench.rtc

    def save(self, data):
        assert len(data) <= 2048
        self.bench.rtc = bytes(data)
        self.bench.step("rtc")


class Ranger(Part):
    rail_ok = True

    def echoes(self):
        self.bench.now_ms += 700
        if self.bench.echoes is None:
            raise OSError(19)
        return list(self.bench.echoes)


class Identity:
    dev_eui = DEV
    link = "lorawan"
    name = "SE-0180-04711"


class Device(Part):
    budget_ms = 20000

    def __init__(self, bench, cold):
        self.bench = bench
        self.cold = cold
        self.identity = Identity()
        self.clock = Clock(bench)
        self.store = Store(bench)
        self.rtc = Rtc(bench)
        self.flash = bench.flash
        self.rebooted = False

    def load_settings(self):
        return self.bench.settings

    def save_settings(self, text):
        self.bench.settings = text

    def make_link(self, state, slept_s, wake):
        self.bench.link.opened_with = (state, slept_s)
        return self.bench.link

    def ranger(self, model):
        return Ranger(self.bench)

    def thermometer(self):
        return self

    def accelerometer(self):
        return self

    def celsius(self):
        if self.bench.celsius is None:
            raise OSError(19)
        return self.bench.celsius

    @property
    def tilted(self):
        if self.bench.tilted is None:
            raise SensorFault("accelerometer")
        return lambda: self.bench.tilted

    def battery_mv(self):
        if self.bench.battery_mv is None:
            raise SensorFault("battery")
        return self.bench.battery_mv

    def release(self):
        pass

    def feed(self):
        pass

    def log(self, text):
        self.bench.lines.append(text)

    def reset_cause(self):
        return 1

    def board_name(self):
        return "bench"

    def reboot(self):
        self.rebooted = True


class Link(Part):
    """Takes reports. `answers` are the results to come, a function of the report or an Exchange; then `then`."""

    ACKNOWLEDGES = False

    def __init__(self, bench):
        self.bench = bench
        self.open_fault = None
        self.answers = []
        self.then = Exchange(True)
        self.reports = []
        self.opened_with = None
        self.exchange_ms = 2000
        self.kept = b"counters"

    def open(self, deadline_ms):
        if isinstance(self.open_fault, Exception):
            raise self.open_fault
        return self.open_fault

    def exchange(self, payload, deadline_ms):
        self.bench.now_ms += self.exchange_ms
        report = decode_report(payload)
        answer = self.answers.pop(0) if self.answers else self.then
        if not isinstance(answer, Exchange):
            answer = answer(report)
        if answer.sent:
            self.reports.append(report)
            self.bench.step("air")
        return answer

    def state(self):
        return self.kept

    def close(self):
        pass

    def delivered(self):
        """Every (epoch, seq) that ever went out."""
        return {(reading.epoch, reading.seq) for report in self.reports for reading in report.readings}
