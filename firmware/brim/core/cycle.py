"""One wake: measure, decide, remember, send, remember what is held, sleep.

A fault is logged and becomes a status; nothing here ends the wake early but the budget, which is checked between steps.
"""

from brim.core.outbox import Outbox
from brim.core.record import follows, key_of, unpack_record
from brim.core.rtc_state import load
from brim.core.ticks import sleep_s, ticks_add, ticks_left
from brim.wire.report_encoder import MAX_EARLIER, MAX_EPOCH, encode_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from brim.core.hal import Device, Link
    from brim.core.rtc_state import RtcState
    from brim.links import Exchange
    from brim.wire.reading import Reading

FURTHER_REPORTS = 3
# What an exchange needs at least (a Wi-Fi round trip, a LoRaWAN uplink with both windows): with less it is not begun.
EXCHANGE_MS = 3000
# What could be a bag, an emptying or an error is looked at again after so long.
CONFIRM_S = 120


class Wake:
    """The state of one wake. `epoch_ok` is False while no epoch could be committed: then nothing gets a seq.
    `hurried`: somebody waits for what it sends."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        self.clock = device.clock
        self.start_s = self.clock.time_s()
        self.deadline_ms = ticks_add(self.clock.ticks_ms(), device.budget_ms)
        self.state: "RtcState" = load(device.rtc.load())
        self.outbox = Outbox(self.state, device.flash)
        self.epoch_ok = True
        self.hurried = False
        self.battery_mv: "int | None" = None
        self.reading: "Reading | None" = None
        self.fault: "str | None" = None
        self.sent = 0
        self.held = 0
        if self.state.fresh:
            self.state.base_s = max(0, self.outbox.last_at_s - self.start_s)
        if self.state.fresh or device.cold:
            from brim.core.settings_file import from_json

            self.state.settings, good = from_json(device.load_settings())
            if not good:
                self.log_fault("settings")
        if not self.state.epoch:  # a fresh state, or one whose epoch could not be committed yet
            self.raise_epoch()
        self.state.wakes += 1

    def now_s(self) -> int:
        """The bin's own time: never earlier than a record that it still holds."""
        return self.state.base_s + self.clock.time_s()

    def left_ms(self) -> int:
        return ticks_left(self.deadline_ms, self.clock.ticks_ms())

    def log_fault(self, name: str) -> None:
        self.fault = name
        self.device.log("fault " + name)

    def save(self) -> None:
        self.device.rtc.save(self.state.pack())

    def raise_epoch(self) -> None:
        """The next epoch, committed before anything is numbered in it."""
        try:
            epoch = max(self.device.store.get_int("epoch") or 0, self.state.epoch) + 1
            if epoch > MAX_EPOCH:
                epoch = 1
            self.device.store.put_int("epoch", epoch)
            self.state.epoch, self.state.seq = epoch, 0
            self.epoch_ok = True
        except Exception:
            self.epoch_ok = False
            self.log_fault("store")

    def take_reading(self, always: bool = False) -> None:
        """Measure; if it is worth a reading, number it and have it in RTC memory before anything else happens."""
        from brim.core.sense import take_reading

        take_reading(self, always)

    def send(self) -> None:
        """Over the link: what is due. What fails stays in the outbox and is tried again at the next wake."""
        state = self.state
        link = None
        self.fault = None
        confirms = True
        exact, state.link = state.link, b""
        now_s = self.now_s()
        rested_s = max(0, now_s - state.link_at_s) if exact else 0
        state.link_at_s = now_s
        # A link's exact counters must not be found again after it has used them: while it works, they are nowhere but
        # in its hands, and whoever wakes in between starts from what the link keeps in flash.
        self.save()
        self.device.release()
        try:
            link = self.device.make_link(exact or None, rested_s, self)
            confirms = getattr(link, "ACKNOWLEDGES", False)
            fault = link.open(self.deadline_ms)
            if fault == "join wait":
                self.device.log(fault)
            elif fault:
                self.log_fault(fault)
            elif confirms:
                self._send_all(link)
            else:
                self._send_newest(link)
        except Exception as error:
            self.log_fault("link " + type(error).__name__)
        if link is not None:
            try:
                link.close()
                state.link, state.link_at_s = link.state(), self.now_s()
            except Exception:
                self.log_fault("link state")
        # Without confirmations, sent is as good as it gets: what the gateway misses it asks for.
        state.retry = len(self.outbox) > 0 and (confirms or not self.sent)
        self.save()

    def _send_newest(self, link: "Link") -> None:
        """LoRaWAN: the newest reading with those before it. An acknowledgement tells that the gateway asks for more:
        then up to three reports with what is still held here, oldest first."""
        sent: "set[tuple[int, int]]" = set()
        group = self.outbox.newest(MAX_EARLIER + 1)
        if not group:
            group = self._oldest_group(sent)
        if not group or not self._exchange(link, group, sent) or not self.held:
            return
        for _ in range(FURTHER_REPORTS):
            group = self._oldest_group(sent)
            if not group or self.left_ms() < EXCHANGE_MS or not self._exchange(link, group, sent):
                return

    def _send_all(self, link: "Link") -> None:
        """Wi-Fi: the whole outbox, oldest first, as long as the other end confirms and the budget lasts."""
        nothing: "set[tuple[int, int]]" = set()
        while self.left_ms() >= EXCHANGE_MS:
            group = self._oldest_group(nothing)
            if not group or not self._exchange(link, group, set()):
                return

    def _oldest_group(self, without: "set[tuple[int, int]]") -> "list[bytes]":
        """The oldest records that fit one report, newest first."""
        records = self.outbox.oldest(MAX_EARLIER + 1, lambda epoch, seq: (epoch, seq) in without)
        group = records[:1]
        for record in records[1:]:
            if not follows(group[0], record):
                break
            group.insert(0, record)
        return group

    def _exchange(self, link: "Link", group: "list[bytes]", sent: "set[tuple[int, int]]") -> bool:
        """Send one report of these records (newest first) and take in what comes back. False: stop here."""
        now_s = self.now_s()
        keys = [key_of(record) for record in group]
        payload = encode_report(
            [unpack_record(record, now_s) for record in group], self.outbox.backlog(keys[0][0], keys[0][1])
        )
        self.device.feed()
        result: "Exchange" = link.exchange(payload, self.deadline_ms)
        if result.sent:
            self.sent += 1
            sent.update(keys)
            self.device.log(f"sent {len(keys)} readings")
        if result.held:
            self._drop(lambda epoch, seq: (epoch, seq) in keys)
        for data in result.commands:
            self._obey(data)
        if result.held or result.commands:
            self.save()
        if result.fault:
            self.log_fault(result.fault)
        return result.sent and not result.fault

    def _drop(self, covers: "Callable[[int, int], bool]") -> None:
        last = self.outbox.acknowledge(covers)
        self.held += 1
        if last:
            self.device.log(f"held {last[0]}:{last[1]}")

    def _obey(self, data: bytes) -> None:
        """Commands of one downlink. What is not understood is refused as a whole."""
        from brim.wire.command import ACK, acknowledges, decode_commands
        from brim.wire.errors import WireError

        try:
            commands = decode_commands(data)
        except WireError:
            self.log_fault("command")
            return
        for command in commands:
            if command[0] == ACK:
                self._drop(lambda epoch, seq, ack=command: acknowledges(ack, epoch, seq))  # type: ignore[misc]

    def finish(self) -> int:
        """The seconds to sleep (60 s .. 12 h)."""
        wanted_s = self.state.settings["sense_s"]
        if self.state.memory.unsure:
            wanted_s = min(wanted_s, CONFIRM_S)
        seconds = sleep_s(wanted_s, self.clock.time_s() - self.start_s)
        self.device.log(f"sleep {seconds}")
        return seconds


def wake(device: "Device") -> int:
    """One whole wake; returns the seconds to sleep. `device` is what boards/ makes (see hal)."""
    now = Wake(device)
    now.take_reading()
    if now.state.retry and len(now.outbox) and now.left_ms() >= EXCHANGE_MS:
        now.send()
    else:
        now.save()
    return now.finish()
