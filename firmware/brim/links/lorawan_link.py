"""LoRaWAN as a link: carries out what the MAC decides, on the radio, the store and the clock."""

import gc

from brim.core.faults import Fault, RadioFault
from brim.core.ticks import ticks_left
from brim.links import Exchange
from brim.lorawan.airtime import symbol_us
from brim.lorawan.mac import Mac, MacError
from brim.wire.ports import PORT_COMMAND, PORT_REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from brim.core.hal import Clock, Store
    from brim.drivers.sx1262 import SX1262
    from brim.lorawan.crypto import Cipher
    from brim.lorawan.mac import Action

STORE_KEY = "lorawan"
FRESH_MV = 3600  # a fresh lithium cell
# What one join needs: a join-request, 6 s to RX2, and an accept at SF12.
JOIN_MS = 10500
# A repeat waits for this and up to as much again, so that bins which collided do not collide once more (chapter 7).
REPEAT_MS = 1000
# What a repeat needs besides the delay of RX1: the wait, an uplink and a downlink at SF12.
REPEAT_BUDGET_MS = 2 * REPEAT_MS + 5500
# From the call to `receive` until the chip listens: the way through Python; its START_MS comes on top.
WAKE_UP_MS = 3
# What every radio can search for.
MAX_SYMBOLS = 248
# Half-width of the doubt about when a window is: a fixed part for scheduling, and 1 % of the time since the uplink.
ERROR_MS = 10
ERROR_DIVISOR = 100
MIN_SYMBOLS = 6
TICKS = 1 << 30


def window_symbols(sf: int, delay_ms: int) -> int:
    """How many symbols to search for a preamble (LoRaMac-node, RegionCommonComputeRxWindowParameters)."""
    error_us = (ERROR_MS + delay_ms // ERROR_DIVISOR) * 1000
    symbol = symbol_us(sf)
    wanted = ((2 * MIN_SYMBOLS - 8) * symbol + 2 * error_us + symbol - 1) // symbol
    return min(max(wanted, MIN_SYMBOLS), MAX_SYMBOLS)


def window_offset_us(sf: int, symbols: int) -> int:
    """When the search begins, relative to the start of the preamble: it is centred on the preamble's middle."""
    return 4 * symbol_us(sf) - symbols * symbol_us(sf) // 2


class LorawanLink:
    """See brim.links. `mac_state` must have been destroyed where it was kept: it is good for one link only.

    `spread`: nobody is waiting for this bin, so its first join is delayed at random; `open` says `join wait` until
    then. `mac` is there for its questions and answers: `ask_time`, `network_time`, `battery`.
    """

    ACKNOWLEDGES = False

    def __init__(
        self,
        radio: "SX1262",
        mac_state: "bytes | None",
        store: "Store",
        identity: "Any",
        cipher: "Callable[[bytes], Cipher]",
        clock: "Clock",
        random_bytes: "Callable[[int], bytes]",
        slept_s: int,
        spread: bool = False,
    ) -> None:
        self._radio = radio
        self._store = store
        self._clock = clock
        self._random = random_bytes
        self._started = False
        self._sound = True
        self._sent = False
        self.mac = Mac(
            identity.dev_eui,
            identity.join_eui,
            identity.app_key,
            cipher,
            random_bytes,
            lambda: store.get(STORE_KEY),
            mac_state,
            first_dr=12 - identity.sf if 7 <= identity.sf <= 12 else 5,
        )
        if not spread:
            self.mac.hurry()
        # The sleep clock is poor: only nine tenths of what it says have certainly passed.
        self.mac.advance(slept_s * 900)
        self._at_ms = clock.ticks_ms()

    def set_battery(self, battery_mv: int, low_mv: int) -> None:
        """What the network is told (DevStatusAns): 1 at `low_mv` and under it, 254 at FRESH_MV and over it."""
        span_mv = max(1, FRESH_MV - low_mv)
        self.mac.battery = 1 + 253 * min(max(battery_mv - low_mv, 0), span_mv) // span_mv

    def _advance(self) -> None:
        now_ms = self._clock.ticks_ms()
        self.mac.advance((now_ms - self._at_ms) & (TICKS - 1))
        self._at_ms = now_ms

    def open(self, deadline_ms: int) -> "str | None":
        """None when there is a session; else `join wait`, `join duty`, `no join`, or a fault of radio or store."""
        if self.mac.joined and not self.mac.lost():
            return None
        fault = self._join(deadline_ms)
        # A session that nobody has answered for long is better than none.
        return None if self.mac.joined and not self.mac.exhausted() else fault

    def _join(self, deadline_ms: int) -> "str | None":
        if ticks_left(deadline_ms, self._clock.ticks_ms()) < JOIN_MS:
            return "join late"
        if not self._sound:
            return "store"
        self._advance()
        try:
            accepted = self._carry_out(self.mac.join(), self.mac.on_accept)
        except MacError as error:
            return "join " + str(error)
        except Fault as fault:
            return str(fault)
        if not accepted:
            return "no join"
        print("join ok")
        return None

    def exchange(self, payload: bytes, deadline_ms: int) -> Exchange:
        """Send a report; commands are what came on their port in RX1 or RX2. Never held: a command tells that."""
        return self.send(PORT_REPORT, payload, deadline_ms)

    def send(self, f_port: int, payload: bytes, deadline_ms: int, confirmed: bool = False) -> Exchange:
        """One uplink with its receive windows, repeated as often as the network wishes (NbTrans) until it answers."""
        mac = self.mac
        self._advance()
        self._sent = False
        if not self._sound:
            return Exchange(False, False, [], "store")
        try:
            actions = mac.send(f_port, payload, confirmed)
            for left in range(mac.nb_trans - 1, -1, -1):
                answered = self._carry_out(actions, mac.on_frame)
                need_ms = REPEAT_BUDGET_MS + 1000 * mac.rx1_delay_s
                if answered or not left or ticks_left(deadline_ms, self._clock.ticks_ms()) < need_ms:
                    break
                self._clock.sleep_ms(REPEAT_MS + REPEAT_MS * self._random(1)[0] // 256)
                self._advance()
                actions = mac.repeat()
        except MacError as error:
            return Exchange(self._sent, False, [], None if self._sent else "mac " + str(error))
        except Fault as fault:
            return Exchange(self._sent, False, [], str(fault))
        received = mac.received
        commands = [received[1]] if received and received[0] == PORT_COMMAND else []
        return Exchange(True, False, commands, None)

    def _carry_out(self, actions: "list[Action]", take: "Callable[..., list[Action] | None]") -> bool:
        """True if a window brought a frame that the MAC took."""
        end_us = 0
        gc.collect()
        for action in actions:
            if action[0] == "persist":
                self._persist(action[1])
            elif action[0] == "transmit":
                if not self._started:
                    self._radio.start()
                    self._started = True
                end_us = self._radio.transmit(*action[1:])
                self._sent = True
            else:
                came = self._listen(end_us, *action[1:])
                if came is None:
                    continue
                more = take(came[0]) if take == self.mac.on_accept else take(came[0], came[1])
                if more is not None:
                    self._carry_out(more, take)
                    return True
        return False

    def _persist(self, blob: bytes) -> None:
        # Until it is in flash, the MAC believes in counters that a power cut would give out a second time.
        self._sound = False
        try:
            self._store.put(STORE_KEY, blob)
        except OSError:
            raise Fault("store") from None
        self._sound = True

    def _listen(self, end_us: int, delay_ms: int, freq_hz: int, sf: int) -> "tuple[bytes, int, int] | None":
        symbols = window_symbols(sf, delay_ms)
        self._radio.prepare(freq_hz, sf, symbols)
        start_us = delay_ms * 1000 + window_offset_us(sf, symbols) - (WAKE_UP_MS + self._radio.START_MS) * 1000
        wait_ms = (start_us - ((self._clock.ticks_us() - end_us) & (TICKS - 1))) // 1000
        if wait_ms > 0:
            self._clock.sleep_ms(wait_ms)
        return self._radio.receive()

    def state(self) -> bytes:
        """What the next link of this bin needs, at most 300 bytes; take it after `close`. b"": begin from the store."""
        if not self._sound:
            return b""
        self._advance()
        return self.mac.state()

    def close(self) -> None:
        """Send the radio to sleep."""
        if self._started:
            self._started = False
            try:
                self._radio.sleep()
            except RadioFault:
                # The next wake resets it.
                pass
