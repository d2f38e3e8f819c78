"""The Class A device as pure logic: calls in, a list of actions out, to be carried out in order.

("persist", blob)   write to flash; must be complete before the next action
("transmit", freq_hz, sf, power_dbm, phy)
("listen", delay_ms, freq_hz, sf)   a window, counted from the end of the transmission
"""

from binascii import crc32

from brim.lorawan import eu868, frames
from brim.lorawan.airtime import airtime_us
from brim.lorawan.memory import MAX_ANSWERS, Memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from brim.lorawan.crypto import Cipher

    Action = tuple[Any, ...]

# Airtime is written to flash as spent before it is, this much at a time. It is what every kill costs: little enough
# that a bin which crashes often is not silenced for hours, enough for a dozen uplinks between two writes.
RESERVE_MS = 1000
NEVER = 0xFFFF

ADR_ACK_LIMIT = 64
ADR_ACK_DELAY = 32
# Full power, five steps down to DR0, the join channels, and one more period in which they may help.
ADR_STEPS = 8

# Ages are counted in the ledger's slots of 12 minutes: 5 an hour.
SILENT_SLOTS = 3 * 24 * 5
# The first join of a boot waits up to 59 minutes (65,535 times this): of 5,000 bins that get power in one second, 1.4 a
# second begin, which at SF9 is a tenth of what the three join channels carry.
FIRST_JOIN_STEP_MS = 54
LINK_CHECK = b"\x02"
DEVICE_TIME = b"\x0d"


class MacError(Exception):
    """The MAC cannot do this now: `no session`, `too long`, `duty`, `wait`, `exhausted`."""


class Mac(Memory):
    """LoRaWAN 1.0.4, EU868, OTAA.

    `load()` gives the last persisted blob or None. `kept` is the last `state()`, and None if anything may have been
    sent after it: whoever keeps it destroys it before a Mac is made from it. `step` is how many uplink counters are
    reserved in flash at a time; that many are skipped at most when `kept` is lost.

    `battery` is what DevStatusReq is answered: 1..254, 0 on mains, 255 unknown. `link_check` is (margin dB, gateways)
    and `network_time` (GPS seconds, 1/256 s) at the end of the last uplink, once an answer has come.
    """

    def __init__(
        self,
        dev_eui: bytes,
        join_eui: bytes,
        app_key: bytes,
        cipher: "Callable[[bytes], Cipher]",
        random_bytes: "Callable[[int], bytes]",
        load: "Callable[[], bytes | None]",
        kept: "bytes | None",
        step: int = 64,
        first_dr: int = eu868.MAX_DR,
    ) -> None:
        super().__init__(cipher(app_key), cipher, crc32(dev_eui + join_eui + app_key))
        self._dev_eui = dev_eui
        self._join_eui = join_eui
        self._random = random_bytes
        self._step = step
        self._first_dr = first_dr
        self._phy = b""
        self._tx_dr = 0
        self.battery = 255
        self.snr_db = 0
        self.link_check: "tuple[int, int] | None" = None
        self.network_time: "tuple[int, int] | None" = None
        self.received: "tuple[int, bytes] | None" = None
        self.acknowledged = False
        self.more_pending = False
        if not self._load_kept(kept):
            self._load_stored(load())
            self._patience = self._random(1)[0]
            if self._join_tries:
                # A bin that dies of its own join-requests must not send them faster for it.
                from brim.lorawan.joining import back_off

                back_off(self)
            elif not self.joined:
                self._join_wait_ms = int.from_bytes(self._random(2), "little") * FIRST_JOIN_STEP_MS

    # Time.

    def advance(self, ms: int) -> None:
        """Let `ms` pass for duty cycle, silence and join back-off: the whole of it while awake, 90 % of a sleep."""
        slots = self._ledger.advance(ms)
        self._join_wait_ms = max(0, self._join_wait_ms - ms)
        self._silent = min(self._silent + slots, NEVER)
        if self._join_tries:
            self._join_age = min(self._join_age + slots, NEVER)

    def join_wait_ms(self) -> int:
        """How long a join must still wait: the random delay of a boot without session, or back-off."""
        return self._join_wait_ms

    def hurry(self) -> None:
        """Somebody is waiting for this bin: its first join is not delayed. Back-off after a try stays."""
        if not self._join_tries:
            self._join_wait_ms = 0

    # Joining.

    def join(self) -> "list[Action]":
        """A join-request; raises MacError `wait`, `duty` or `exhausted`."""
        if self._join_wait_ms:
            raise MacError("wait")
        if self._next_nonce > 0xFFFF:
            raise MacError("exhausted")
        from brim.lorawan.joining import request

        return request(self)

    def on_accept(self, phy: bytes) -> "list[Action] | None":
        """What came after a join-request: None if it is no accept for this device."""
        from brim.lorawan.joining import take_accept

        return take_accept(self, phy)

    # Data.

    def ask_link_check(self) -> None:
        """LinkCheckReq with the next uplink that has room (section 5.1)."""
        self._ask(LINK_CHECK)

    def ask_time(self) -> None:
        """DeviceTimeReq with the next uplink that has room (section 5.10)."""
        self._ask(DEVICE_TIME)

    def _ask(self, question: bytes) -> None:
        if question not in self.questions:
            self.questions += question

    def send(self, f_port: int, payload: bytes, confirmed: bool = False) -> "list[Action]":
        """One uplink; raises MacError `no session`, `exhausted`, `too long` or `duty`, and then nothing has changed."""
        if not self.joined:
            raise MacError("no session")
        if self.exhausted():
            raise MacError("exhausted")
        room = eu868.MAX_PAYLOAD[self.dr] - len(payload)
        if room < 0:
            raise MacError("too long")
        f_opts = due = b""
        if self.answers:
            from brim.lorawan.mac_commands import split

            f_opts, due = split(self.answers, room)
        asked = self.questions[: max(0, min(room, MAX_ANSWERS) - len(f_opts))]
        f_opts += asked
        f_ctrl = frames.ADR | (frames.ACK if self._ack_due else 0)
        if self._adr_count >= ADR_ACK_LIMIT:
            f_ctrl |= frames.ADR_ACK_REQ
        m_type = frames.CONFIRMED_UP if confirmed else frames.DATA_UP
        self._phy = frames.build_data(
            m_type, self._net, self._application, self._dev_addr, f_ctrl, self._f_cnt_up, f_opts, f_port, payload
        )
        self._tx_dr = self.dr
        sent = self._transmit(self._enabled(), False)
        self.answers, self.questions = due, self.questions[len(asked) :]
        self._ack_due = False
        return sent

    def repeat(self) -> "list[Action]":
        """The last uplink again on another channel (NbTrans); raises MacError `duty`."""
        return self._transmit(self._enabled(), None)

    def usable(self, mask: int, dr: int) -> "list[int]":
        """Which channels of a mask carry a data rate."""
        rates = self.rates
        return [
            index
            for index, freq_hz in enumerate(self.channels)
            if freq_hz and mask >> index & 1 and rates[index] & 15 <= dr <= rates[index] >> 4
        ]

    def _enabled(self) -> "list[int]":
        # Without any at this rate the join channels are what every network hears.
        return self.usable(self.mask, self._tx_dr) or [0, 1, 2]

    def _transmit(self, channels: "list[int] | tuple[int, ...]", join: "bool | None") -> "list[Action]":
        # `join` None repeats a frame: its counter is already taken.
        sf = eu868.SF[self._tx_dr]
        power_dbm = eu868.MAX_POWER_DBM - (0 if join else 2 * self.power)
        airtime_ms = airtime_us(len(self._phy), sf) // 1000 + 1
        # What a network allows its devices (DutyCycleReq) does not hold for the search for a network.
        shift = 0 if join else self.duty_shift
        free = [
            index for index in channels if self._ledger.fits(eu868.sub_band(self.channels[index]), airtime_ms, shift)
        ]
        if not free:
            raise MacError("duty")
        index = free[self._random(1)[0] % len(free)]
        freq_hz = self.channels[index]
        persist = self._spend(eu868.sub_band(freq_hz), airtime_ms)
        if join:
            self._next_nonce += 1
            self._join_tries = min(self._join_tries + 1, 255)
            persist = True
        elif join is False:
            if self._f_cnt_up >= self._ceiling:
                self._ceiling = min(self._f_cnt_up + self._step, frames.MAX_F_CNT)
                persist = True
            self._f_cnt_up += 1
            self._count_silence()
        self.received = None
        self.acknowledged = self.more_pending = False
        actions: "list[Action]" = [("persist", self._stored())] if persist else []
        actions.append(("transmit", freq_hz, sf, power_dbm, self._phy))
        if join:
            delay_ms, rx1_hz, rx1_dr = eu868.JOIN_DELAY_S * 1000, freq_hz, self._tx_dr
            rx2_hz, rx2_dr = eu868.RX2_HZ, eu868.RX2_DR
        else:
            delay_ms, rx1_hz = self.rx1_delay_s * 1000, self.rx1_hz[index] or freq_hz
            rx1_dr = eu868.rx1_dr(self._tx_dr, self.rx1_offset)
            rx2_hz, rx2_dr = self.rx2_hz, self.rx2_dr
        actions.append(("listen", delay_ms, rx1_hz, eu868.SF[rx1_dr]))
        actions.append(("listen", delay_ms + 1000, rx2_hz, eu868.SF[rx2_dr]))
        return actions

    def _spend(self, band: int, airtime_ms: int) -> bool:
        """Count airtime; True if flash must reserve more before it is used."""
        ledger = self._ledger
        ledger.spend(band, airtime_ms)
        if ledger.used_ms(band) <= self._reserved[band]:
            return False
        for each in range(len(self._reserved)):
            used_ms = ledger.used_ms(each)
            self._reserved[each] = min(used_ms + RESERVE_MS, 65535) if used_ms else 0
        return True

    def _count_silence(self) -> None:
        """Section 4.3.1.1: with no downlink for long first full power, then slower rates, at last the join channels."""
        self._adr_count = min(self._adr_count + 1, NEVER)
        late = self._adr_count - ADR_ACK_LIMIT
        if late <= 0 or late % ADR_ACK_DELAY:
            return
        if late == ADR_ACK_DELAY:
            self.power = 0
        elif self.dr:
            self.dr -= 1
        else:
            self.mask, self.nb_trans = self.mask | 7, 1

    def lost(self) -> bool:
        """True once everything has been tried, for days, and no downlink came: time for a new join.

        How many days is random (three, and up to two more), so that a city's bins do not join again all at once.
        """
        if self.exhausted():
            return True
        return self._adr_count >= ADR_ACK_LIMIT + ADR_STEPS * ADR_ACK_DELAY and (
            self._silent >= SILENT_SLOTS + self._patience
        )

    def on_frame(self, phy: bytes, snr_db: int) -> "list[Action] | None":
        """What came in a window after an uplink: None if it is no new frame for this device.

        Afterwards `received` is (port, payload) or None, `acknowledged` and `more_pending` tell of the frame.
        """
        if not self.joined:
            return None
        try:
            frame = frames.parse_data(phy)
            if frame.m_type not in (frames.DATA_DOWN, frames.CONFIRMED_DOWN) or frame.dev_addr != self._dev_addr:
                return None
            f_cnt = frames.full_f_cnt(self._f_cnt_down, frame.f_cnt)
            if not self._f_cnt_down <= f_cnt < frames.MAX_F_CNT:
                return None
            payload = frames.open_data(self._net, self._application, phy, frame, f_cnt)
        except frames.FrameError:
            return None
        commands = payload if frame.f_port == 0 else frame.f_opts
        if commands or self.answers:
            # Loaded before anything is changed: the heap may have no room for it.
            from brim.lorawan.mac_commands import answer
        self._f_cnt_down = f_cnt + 1
        self._adr_count = self._silent = 0
        self.snr_db = snr_db
        self._ack_due = frame.m_type == frames.CONFIRMED_DOWN
        self.acknowledged = bool(frame.f_ctrl & frames.ACK)
        self.more_pending = bool(frame.f_ctrl & frames.F_PENDING)
        if frame.f_port:
            self.received = (frame.f_port, payload)
        if commands or self.answers:
            answer(self, commands)
        return [("persist", self._stored())]
