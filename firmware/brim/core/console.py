"""The verbs of the service console. A request line in, answer lines out; no verb shows a secret."""

import gc

from brim.core.cycle import Wake
from brim.core.faults import Fault
from brim.core.measure import measure
from brim.core.outbox import Outbox
from brim.core.rtc_state import load
from brim.core.settings import SETTINGS
from brim.core.settings_file import SettingInvalid, changed, from_json, to_json
from brim.core.ticks import ticks_left
from brim.wire.console_line import decode_request, encode_ok, encode_refusal
from brim.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from brim.core.fill import Measurement
    from brim.core.hal import Device

    Answers = Iterator[dict[str, Any]]

FIRMWARE = "0.1.0"
MAX_LIVE = 1000
CALIBRATE_SPREAD_MM = 10


class Refused(Exception):
    """(code, hint) of a request that is understood and not done."""


def _hex(data: bytes) -> str:
    return "".join([f"{byte:02x}" for byte in data])


class Console:
    """`handle` answers one line. `reboot_wanted` is set when the answer to `reboot` is out."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        self.reboot_wanted = False
        self._verbs = {
            "who": (self._who, 0, 0, "who"),
            "live": (self._live, 0, 1, "live [N]"),
            "calibrate": (self._calibrate, 0, 1, "calibrate [empty|full]"),
            "test-uplink": (self._test_uplink, 0, 0, "test-uplink"),
            "diagnose": (self._diagnose, 0, 0, "diagnose"),
            "get": (self._get, 0, 1, "get [SETTING]"),
            "set": (self._set, 2, 2, "set SETTING VALUE"),
            "reboot": (self._reboot, 0, 0, "reboot"),
        }

    def handle(self, line: "bytes | str") -> "Iterator[str]":
        """The answer lines of one request; what cannot be understood gets a refusal with the id 0."""
        try:
            ident, verb, args = decode_request(line)
        except WireError as error:
            yield encode_refusal("0", "line", str(error))
            return
        entry = self._verbs.get(verb)
        if entry is None:
            yield encode_refusal(ident, "verb", "one of " + " ".join(sorted(self._verbs)))
            return
        call, least, most, usage = entry
        if not least <= len(args) <= most:
            yield encode_refusal(ident, "usage", usage)
            return
        try:
            for fields in call(args):
                yield encode_ok(ident, fields)
        except Refused as refused:
            yield encode_refusal(ident, refused.args[0], refused.args[1])
        except Fault as fault:
            yield encode_refusal(ident, "value" if isinstance(fault, SettingInvalid) else "fault", str(fault))
        except Exception as error:
            yield encode_refusal(ident, "fault", type(error).__name__)

    def _settings(self) -> "dict[str, int]":
        return from_json(self.device.load_settings())[0]

    def _who(self, _: "list[str]") -> "Answers":
        device = self.device
        identity = device.identity
        state = load(device.rtc.load())
        yield {
            "dev": _hex(identity.dev_eui) if identity else None,
            "bin": identity.name[:32] if identity else None,
            "link": identity.link[:8] if identity else None,
            "firmware": FIRMWARE,
            "board": device.board_name(),
            "epoch": state.epoch,
            "seq": state.seq,
            "unsent": len(Outbox(state, device.flash)),
            "reset": device.reset_cause(),
        }

    def _measure(self) -> "Measurement":
        settings, _ = from_json(self.device.load_settings())
        try:
            celsius = self.device.thermometer().celsius()
        except Exception:
            celsius = None
        return measure(self.device, settings["ranger"], celsius)

    def _live(self, args: "list[str]") -> "Answers":
        count = int(args[0]) if args and args[0].isdigit() else 0 if args else 1
        if not 1 <= count <= MAX_LIVE:
            raise Refused("usage", f"live 1..{MAX_LIVE}")
        for left in range(count - 1, -1, -1):
            self.device.feed()
            measured = self._measure()
            yield {
                "status": measured.status,
                "distance_mm": measured.distance_mm,
                "spread_mm": measured.spread_mm,
                "echoes": measured.echoes,
                "left": left,
            }

    def _calibrate(self, args: "list[str]") -> "Answers":
        """The distance now becomes the one of the empty (or full) bin, if it is steady."""
        which = args[0] if args else "empty"
        if which not in ("empty", "full"):
            raise Refused("usage", "calibrate [empty|full]")
        measured = self._measure()
        if measured.distance_mm is None or measured.spread_mm is None:
            raise Refused("status", measured.status)
        if measured.spread_mm > CALIBRATE_SPREAD_MM:
            raise Refused("unsteady", f"spread {measured.spread_mm} mm, at most {CALIBRATE_SPREAD_MM}")
        name = which + "_mm"
        self._keep(changed(self._settings(), name, measured.distance_mm))
        yield {name: measured.distance_mm, "spread_mm": measured.spread_mm, "echoes": measured.echoes}

    def _keep(self, settings: "dict[str, int]") -> None:
        try:
            self.device.save_settings(to_json(settings))
        except OSError:
            raise Refused("fault", "settings not written") from None

    def _get(self, args: "list[str]") -> "Answers":
        settings = self._settings()
        names = [row[0] for row in SETTINGS]
        if args:
            if args[0] not in names:
                raise Refused("value", "no such setting")
            names = args
        yield {name: settings[name] for name in names}

    def _set(self, args: "list[str]") -> "Answers":
        settings = changed(self._settings(), args[0], args[1])
        self._keep(settings)
        yield {args[0]: settings[args[0]], "config": settings["config"]}

    def _reboot(self, _: "list[str]") -> "Answers":
        yield {"reboot": True}
        self.reboot_wanted = True

    def _test_uplink(self, _: "list[str]") -> "Answers":
        """A real reading over the real link."""
        device = self.device
        if device.identity is None:
            raise Refused("unprovisioned", "this bin has no identity")
        now = Wake(device)
        now.hurried = True
        now.take_reading(always=True)
        if now.reading is None:
            raise Refused("fault", now.fault or "no reading")
        now.send()
        device.cold = False  # its settings and epoch are taken: the wake that follows goes on from here
        yield {
            "reading": f"{now.reading.epoch}:{now.reading.seq}",
            "status": now.reading.status,
            "sent": now.sent > 0,
            "held": now.held > 0,
            "fault": now.fault,
            "ms": device.budget_ms - ticks_left(now.deadline_ms, device.clock.ticks_ms()),
        }

    def _diagnose(self, _: "list[str]") -> "Answers":
        """One answer a test: {"test", "ok", "info", "left"}."""
        tests = (
            ("identity", self._test_identity),
            ("ranger", self._test_ranger),
            ("thermometer", lambda: f"{self.device.thermometer().celsius()} C"),
            ("accelerometer", lambda: "tilted" if self.device.accelerometer().tilted() else "upright"),
            ("battery", lambda: f"{self.device.battery_mv()} mV"),
            ("settings", self._test_settings),
            ("memory", self._test_memory),
            ("outbox", self._test_outbox),
        )
        left = len(tests)
        for name, test in tests:
            left -= 1
            self.device.feed()
            try:
                good, info = True, test()
            except Exception as error:
                good, info = False, str(error)[:60] or type(error).__name__
            yield {"test": name, "ok": good, "info": info, "left": left}

    def _test_identity(self) -> str:
        identity = self.device.identity
        if identity is None:
            raise Fault("not provisioned")
        return f"{_hex(identity.dev_eui)} {identity.link}"[:60]

    def _test_ranger(self) -> str:
        measured = self._measure()
        if measured.status != "ok":
            raise Fault(f"{measured.status}, {measured.echoes} valid echoes")
        return f"{measured.distance_mm} mm, spread {measured.spread_mm}, {measured.echoes} echoes"

    def _test_settings(self) -> str:
        settings, good = from_json(self.device.load_settings())
        if not good:
            raise Fault("settings file is damaged, defaults in use")
        return f"version {settings['config']}"

    def _test_memory(self) -> str:
        gc.collect()
        free = getattr(gc, "mem_free", None)
        return f"{free()} B free" if free else "not known here"

    def _test_outbox(self) -> str:
        state = load(self.device.rtc.load())
        outbox = Outbox(state, self.device.flash)
        unsent = len(outbox)
        if outbox.fault:
            raise Fault("flash cannot be read")
        return f"{unsent} unsent, {state.dropped} dropped"
