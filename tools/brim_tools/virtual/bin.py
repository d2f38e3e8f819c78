"""A virtual bin: one life of the firmware after another, its time, its sleep and its own poor clock."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from brim.boards import heltec_v3 as board

from brim_tools.virtual.aerial import Aerial
from brim_tools.virtual.chip_calls import Op
from brim_tools.virtual.chips import Chips, Litter
from brim_tools.virtual.ether import Ether
from brim_tools.virtual.interpreter import Interpreter, Request, Zygote
from brim_tools.virtual.models.flash import PowerCut
from brim_tools.virtual.world import Event, World

PWRON_RESET, HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET = 1, 2, 3, 4, 5
TIMER_WAKE = 4
_CALL_US = 10
_FOREVER = 0xFFFFFFFF


@dataclass
class Firmware:
    """What is flashed, and how much heap it gets (bytes on the 64-bit build)."""

    folder: Path
    heap_bytes: int
    watch_heap: bool = False


@dataclass
class Counters:
    wakes: int = 0
    crashes: int = 0
    watchdog_resets: int = 0
    calls: int = 0
    heap_peak_bytes: int = 0  # the firmware's own, without the stand-ins
    stand_in_heap_bytes: int = 0
    slept_s: int = 0


class VirtualBin:
    """One bin in the world. `sleep_speed` shortens its sleep against the wall clock; paced, radio time stays real."""

    def __init__(
        self,
        name: str,
        dev: str,
        world: World,
        zygote: Zygote,
        firmware: Firmware,
        litter: Litter,
        *,
        rng: random.Random,
        ether: Ether | None = None,
        sleep_speed: float = 1.0,
        on_line: Callable[[VirtualBin, str], None] = lambda bin_, line: None,
        tty_fd: int | None = None,
    ) -> None:
        self.name, self.dev = name, dev
        self.counters = Counters()
        self._aerial = Aerial(world, ether, lambda: self._model_us, self._dio1_changed)
        self.chips = Chips(name, litter, rng, self._aerial)
        self.parked = False
        self.cut_at_call: int | None = None  # the supply goes away at this hardware call
        self.kill_at_call: int | None = None  # only the program ends there, as at a panic; RTC memory stays
        self.on_booted: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] | None = None
        self.booting = False
        self._run_main = True
        self.on_sleep: Callable[[VirtualBin, int], bool] = lambda bin_, sleep_s: True
        self._world, self._zygote, self._firmware = world, zygote, firmware
        self._rng, self._sleep_speed = rng, sleep_speed
        self._on_line, self._tty_fd = on_line, tty_fd
        # Rule 11: the sleep clock may be 9 % off; each bin has its own error, and a little more every night.
        self._drift = rng.uniform(-0.08, 0.08)
        self._cause, self._wake_reason = PWRON_RESET, 0
        self._interpreter: Interpreter | None = None
        self._boot_event: Event | None = None
        self._model_us = 0  # the bin's own true time
        self._clock_error_us = 0
        self._boot_us = 0
        self._ticks_start_us = 0
        self._watchdog: tuple[int, int] | None = None  # (timeout, last fed)
        self._wifi_on, self._wifi_joined_at_us = False, -1
        self._wall_mark_ns = 0
        self._wake_pin: int | None = None
        self._waiting_dio1: Callable[[], None] | None = None
        self._output = b""

    # --- life ---------------------------------------------------------------------------------------------------
    def power_on(self, delay_us: int = 0) -> None:
        """Connect the supply: the RTC memory is gone, the clock starts at 2000."""
        self.chips.rtc_memory, self._cause, self._wake_reason = b"", PWRON_RESET, 0
        self.chips.nvs.lose_power()
        self._clock_error_us = -self._model_us
        self._run_main = True
        self._boot_at(self._world.now_us + delay_us)

    def soft_reset(self, *, run_main: bool) -> None:
        """The interpreter starts again; chips and RTC memory stay as they are."""
        self._cause, self._wake_reason, self._run_main = SOFT_RESET, 0, run_main
        self._boot_at(self._world.now_us)

    def cut_power(self) -> None:
        """The supply is gone this instant."""
        if self._boot_event is not None:
            self._boot_event.cancel()
            self._boot_event = None
        self._end_process()
        self.chips.lose_power(self._model_us)

    def kill(self) -> None:
        """The program ends this instant and boots again, as after a panic: RTC memory, clock and radio go on."""
        self._reboot(WDT_RESET)

    @property
    def running(self) -> bool:
        return self._interpreter is not None

    def _boot_at(self, ether_us: int) -> None:
        """Schedule a boot; an earlier plan (the end of a sleep) is dropped."""
        if self._boot_event is not None:
            self._boot_event.cancel()
        self._boot_event = self._world.at(ether_us, self._boot)
        self.booting = self._cause != DEEPSLEEP_RESET

    def _boot(self) -> None:
        self._boot_event, self.booting = None, False
        if self.parked or self._interpreter is not None:
            return
        if not self._world.paced:
            self._model_us = max(self._model_us, self._world.now_us)
        self.counters.wakes += 1
        self._boot_us = self._model_us
        # Ticks start anywhere: code that forgets their wrap at 2**30 shows it here.
        self._ticks_start_us = self._rng.choice((0, (1 << 30) - 3_000_000, ((1 << 30) - 2_000) * 1000))
        self._watchdog, self._wifi_on, self._wake_pin = None, False, None
        self._aerial.leave_air()
        self._interpreter = self._zygote.start(
            self._firmware.folder,
            heap_bytes=self._firmware.heap_bytes,
            flash_blocks=self.chips.flash.blocks,
            tty_fd=self._tty_fd,
            watch_heap=self._firmware.watch_heap,
            run_main=self._run_main,
        )
        self._run_main = True
        self._wall_mark_ns = time.monotonic_ns()
        if self._world.paced:
            self._world.watch(self._interpreter.requests_fd, self._serve)
        else:
            self._serve_until_it_waits()

    def _end_process(self) -> None:
        interpreter, self._interpreter = self._interpreter, None
        if interpreter is None:
            return
        if self._world.paced:
            self._world.unwatch(interpreter.requests_fd)
        interpreter.kill()
        self._drain_output(interpreter)
        interpreter.close()
        self.chips.nvs.lose_power()
        self._waiting_dio1 = None

    def _drain_output(self, interpreter: Interpreter) -> None:
        *lines, self._output = (self._output + interpreter.read_output()).split(b"\n")
        for line in lines:
            self._on_line(self, line.decode(errors="replace").rstrip("\r"))

    def _reboot(self, cause: int) -> None:
        self._end_process()
        self._cause, self._wake_reason = cause, TIMER_WAKE if cause == DEEPSLEEP_RESET else 0
        self._boot_at(self._world.now_us if self._world.paced else self._model_us)

    def _died(self) -> None:
        """The program ended by itself: on an ESP32 it now stands at the REPL until the watchdog bites."""
        if self.on_end is not None:
            self._end_process()
            self.on_end()
            return
        self.counters.crashes += 1
        if self._watchdog is None:
            self._end_process()
            self._on_line(self, "virtual: ended without a watchdog; dead until its supply is cut")
            return
        self._model_us = max(self._model_us, sum(self._watchdog))
        self._watchdog_bites()

    def _watchdog_bites(self) -> None:
        self.counters.watchdog_resets += 1
        self._on_line(self, "virtual: watchdog reset")
        self._reboot(WDT_RESET)

    # --- the conversation with the interpreter -----------------------------------------------------------------
    def _serve(self) -> None:
        """One request (paced world: the selector calls)."""
        interpreter = self._interpreter
        if interpreter is None:
            return
        try:
            request = interpreter.read_request()
        except EOFError:
            request = None
        self._drain_output(interpreter)
        if request is None:
            self._died()
        else:
            self._handle(request)

    def _serve_until_it_waits(self) -> None:
        """Unpaced: stay with this bin until it waits for time to pass; no other bin may overtake it meanwhile."""
        self._answered = True
        while self._answered and self._interpreter is not None:
            self._answered = False
            self._serve()

    def _answer(self, data: bytes = b"") -> None:
        if self._interpreter is not None:
            self._answered = True
            # What passes before the answer is model time already (a wait on the air); what passes after it is not.
            self._wall_mark_ns = time.monotonic_ns()
            self._interpreter.answer(data)

    def _resume_at(self, model_us: int, make_answer: Callable[[], bytes]) -> None:
        """Let the bin's time pass until `model_us`, then answer."""
        if self._watchdog is not None and model_us > sum(self._watchdog):
            self._model_us = max(self._model_us, sum(self._watchdog))
            self._watchdog_bites()
            return
        if self._world.paced and not self._aerial.on_air():
            self._model_us = max(self._model_us, model_us)
            self._answer(make_answer())
            return
        interpreter = self._interpreter

        def resume() -> None:
            if self._interpreter is not interpreter or interpreter is None:
                return
            self._model_us = max(self._model_us, model_us)
            self._answer(make_answer())
            if not self._world.paced:
                self._serve_until_it_waits()

        self._world.at(self._aerial.ether_us(model_us), resume)

    def _handle(self, request: Request) -> None:
        self.counters.calls += 1
        if self.cut_at_call is not None and self.counters.calls >= self.cut_at_call:
            self.cut_at_call = None
            self.cut_power()
            return
        if self.kill_at_call is not None and self.counters.calls >= self.kill_at_call:
            self.kill_at_call = None
            self.kill()
            return
        own_heap_bytes = request.heap_bytes - self.counters.stand_in_heap_bytes
        self.counters.heap_peak_bytes = max(self.counters.heap_peak_bytes, own_heap_bytes)
        self._model_us += _CALL_US
        if self._wifi_on or self._tty_fd is not None:
            self._model_us += (time.monotonic_ns() - self._wall_mark_ns) // 1000
        if self._watchdog is not None and self._model_us > sum(self._watchdog):
            self._watchdog_bites()
            return
        try:
            answer = self.chips.answer(request.op, request.data, self._model_us)
            if answer is not None:
                self._answer(answer)
            else:
                self._OPS[request.op](self, request.data)
        except PowerCut:
            self.cut_power()

    # --- operations ---------------------------------------------------------------------------------------------
    def _op_boot(self, data: bytes) -> None:
        chip_id = bytes.fromhex(self.dev)[:3] + bytes.fromhex(self.dev)[5:]
        self._answer(bytes((self._cause, self._wake_reason)) + chip_id + self.chips.rtc_memory)

    def _op_uart_read(self, data: bytes) -> None:
        uart, count, timeout_ms = struct.unpack("<BII", data)
        if not self.chips.ranger_listens(uart):
            self._resume_at(self._model_us + timeout_ms * 1000, lambda: b"")
            return
        taken, done_us = self.chips.ranger.read(self._model_us, count, timeout_ms * 1000)
        self._resume_at(done_us, lambda: taken)

    def _op_ticks(self, data: bytes) -> None:
        self._answer(struct.pack("<Q", self._model_us - self._boot_us + self._ticks_start_us))

    def _op_time(self, data: bytes) -> None:
        self._answer(struct.pack("<I", (self._model_us + self._clock_error_us) // 1_000_000))

    def _op_sleep(self, data: bytes) -> None:
        self._resume_at(self._model_us + int(struct.unpack("<Q", data)[0]), bytes)

    def _op_light_sleep(self, data: bytes) -> None:
        """Until the wake pin is high or the time is over."""
        timeout_ms = int(struct.unpack("<I", data)[0])
        until_us = self._model_us + timeout_ms * 1000 if timeout_ms != _FOREVER else 1 << 62
        if self._wake_pin == board.RADIO_DIO1:
            if self.chips.radio.dio1():
                self._answer()
                return
            rises_us = self.chips.radio.dio1_rises_at()
            if rises_us is not None and rises_us <= until_us:
                self._resume_at(rises_us, bytes)
                return
            self._wait_for_dio1(until_us)
            return
        self._resume_at(until_us, bytes)

    def _wait_for_dio1(self, until_us: int) -> None:
        """The air decides: whichever comes first, a frame (or the window's end) or the time given."""
        interpreter, done = self._interpreter, [False]

        def wake(model_us: int) -> None:
            if done[0] or self._interpreter is not interpreter:
                return
            done[0] = True
            self._waiting_dio1 = None
            self._model_us = max(self._model_us, model_us)
            self._answer()
            if not self._world.paced:
                self._serve_until_it_waits()

        self._waiting_dio1 = lambda: wake(self._aerial.model_us(self._world.now_us))
        if self._watchdog is not None and until_us > sum(self._watchdog):
            until_us = sum(self._watchdog)
            self._world.at(self._aerial.ether_us(until_us), lambda: None if done[0] else self._watchdog_bites())
            return
        self._world.at(self._aerial.ether_us(until_us), lambda: wake(until_us))

    def _op_deep_sleep(self, data: bytes) -> None:
        asked_us = int(struct.unpack("<Q", data)[0]) * 1000
        if asked_us > 1 << 50:
            self._on_line(self, "virtual: sleeps for ever")
            self._end_process()
            return
        drift = max(-0.09, min(0.09, self._drift + self._rng.uniform(-0.01, 0.01)))
        true_us = round(asked_us * (1 + drift))
        self._model_us += true_us
        self._clock_error_us += asked_us - true_us  # its clock believes that it slept what it asked for
        self.counters.slept_s += asked_us // 1_000_000
        self.chips.ranger.power(False, self._model_us)
        speed = self._sleep_speed if self._world.paced else 1.0
        self._end_process()
        self._cause, self._wake_reason = DEEPSLEEP_RESET, TIMER_WAKE
        if self.on_sleep(self, asked_us // 1_000_000):
            wake_us = self._world.now_us + round(true_us / speed) if self._world.paced else self._model_us
            self._boot_at(wake_us)
        else:
            self.parked = True

    def _op_reset(self, data: bytes) -> None:
        self._reboot(HARD_RESET)

    def _op_watchdog(self, data: bytes) -> None:
        timeout_ms = int(struct.unpack("<I", data)[0])
        if timeout_ms:
            self._watchdog = (timeout_ms * 1000, self._model_us)
        elif self._watchdog is not None:
            self._watchdog = (self._watchdog[0], self._model_us)
        self._answer()

    def _op_wake_on(self, data: bytes) -> None:
        self._wake_pin = data[0]
        self._answer()

    def _op_wlan(self, data: bytes) -> None:
        verb = data[0]
        if verb == 0:
            self._wifi_on = bool(data[1])
            self._answer()
        elif verb == 1:
            self._wifi_joined_at_us = self._model_us + 300_000
            self._answer()
        elif verb == 2:
            joined = self._wifi_on and 0 <= self._wifi_joined_at_us <= self._model_us
            self._answer(struct.pack("<H", 1010 if joined else 1001))
        elif verb == 4:
            mac = bytes.fromhex(self.dev)
            self._answer(mac[:3] + mac[5:])
        elif verb == 5:
            self._answer(struct.pack("<i", -61))
        else:
            self._wifi_joined_at_us = -1
            self._answer()

    def _op_heap_base(self, data: bytes) -> None:
        """The stand-ins are loaded, the firmware is not: what is in use now is not the bin's."""
        self.counters.stand_in_heap_bytes = int.from_bytes(data, "little")
        self._answer()
        self.on_booted()

    def _dio1_changed(self) -> None:
        if self._waiting_dio1 is not None and self.chips.radio.dio1():
            self._waiting_dio1()

    _OPS: dict[int, Callable[[VirtualBin, bytes], None]] = {
        Op.BOOT: _op_boot,
        Op.UART_READ: _op_uart_read,
        Op.TICKS_US: _op_ticks,
        Op.TIME_S: _op_time,
        Op.SLEEP_US: _op_sleep,
        Op.LIGHT_SLEEP: _op_light_sleep,
        Op.DEEP_SLEEP: _op_deep_sleep,
        Op.RESET: _op_reset,
        Op.WATCHDOG: _op_watchdog,
        Op.WAKE_ON: _op_wake_on,
        Op.WLAN: _op_wlan,
        Op.HEAP_BASE: _op_heap_base,
    }
