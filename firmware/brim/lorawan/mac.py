"""The Class A device as pure logic: calls in, a list of actions out, to be carried out in order.

("persist", blob)   write to flash; must be complete before the next action
("transmit", freq_hz, sf, power_dbm, phy)
("listen", delay_ms, freq_hz, sf)   a window, counted from the end of the transmission
"""

import struct
from binascii import crc32

from brim.lorawan import eu868, frames, mac_commands
from brim.lorawan.airtime import airtime_us
from brim.lorawan.crypto import session_keys
from brim.lorawan.ledger import SIZE as LEDGER_SIZE
from brim.lorawan.ledger import Ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from brim.lorawan.crypto import Cipher

    Action = tuple[Any, ...]

VERSION = 1
# Airtime is written to flash as spent before it is, this much at a time. It is what every kill costs: little enough
# that a bin which crashes often is not silenced for hours, enough for a dozen uplinks between two writes.
RESERVE_MS = 1000
NEVER = 0xFFFFFFFF

ADR_ACK_LIMIT = 64
ADR_ACK_DELAY = 32

# version, owner, next DevNonce, last JoinNonce, reserved ms per sub-band, joined
_HEAD = "<BIII6HB"
# DevAddr, NwkSKey, AppSKey, FCntUp ceiling, next FCntDown,
# RX1 delay, RX1 offset, RX2 DR, DR, power, NbTrans, duty, channel mask, RX2 Hz, channels
_SESSION = "<4s16s16sIIBBBBBBBHI16I"
# next FCntUp, ADR counter, ACK due, join age s, wait ms and tries, sticky and single answers with their lengths
_LIVE = "<IHBIIBB15sB15s"
_HEAD_SIZE = struct.calcsize(_HEAD)
_SESSION_SIZE = struct.calcsize(_SESSION)
_LIVE_SIZE = struct.calcsize(_LIVE)


class MacError(Exception):
    """The MAC cannot do this now: `no session`, `too long`, `duty`, `wait`, `exhausted`."""


class Mac:
    """LoRaWAN 1.0.4, EU868, OTAA.

    `load()` gives the last persisted blob or None. `kept` is the last `state()`, and None if anything may have been
    sent after it: whoever keeps it destroys it before a Mac is made from it. `step` is how many uplink counters are
    reserved in flash at a time; that many are skipped at most when `kept` is lost.
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
        self._dev_eui = dev_eui
        self._join_eui = join_eui
        self._cipher = cipher
        self._app = cipher(app_key)
        self._random = random_bytes
        self._step = step
        self._first_dr = first_dr
        self._owner = crc32(dev_eui + join_eui + app_key)
        self._ledger = Ledger()
        self._reserved = [0] * len(eu868.SUB_BANDS)
        self._next_nonce = 1
        self._join_nonce = 0
        self._join_age_s = 0
        self._join_wait_ms = 0
        self._join_tries = 0
        self._phy = b""
        self._tx_dr = 0
        self.battery = 255
        self.snr_db = 0
        self.received: "tuple[int, bytes] | None" = None
        self.acknowledged = False
        self.more_pending = False
        self._forget_session()
        if not self._load_kept(kept):
            self._load_stored(load())

    def _forget_session(self) -> None:
        self.joined = False
        self._dev_addr = bytes(4)
        self._keys = (bytes(16), bytes(16))
        self._net = self._application = self._app
        self._f_cnt_up = self._ceiling = self._f_cnt_down = 0
        self.rx1_delay_s, self.rx1_offset, self.rx2_dr, self.rx2_hz = eu868.RX1_DELAY_S, 0, eu868.RX2_DR, eu868.RX2_HZ
        self.dr, self.power, self.nb_trans, self.duty_shift = eu868.MAX_DR, 0, 1, 0
        self.channels = list(eu868.JOIN_CHANNELS_HZ) + [0] * (eu868.MAX_CHANNELS - len(eu868.JOIN_CHANNELS_HZ))
        self.mask = 7
        self._adr_count = 0
        self._ack_due = False
        self.sticky = self.once = b""

    # What is written down.

    def _stored(self) -> bytes:
        return struct.pack(
            _HEAD, VERSION, self._owner, self._next_nonce, self._join_nonce, *self._reserved, self.joined
        ) + struct.pack(
            _SESSION,
            self._dev_addr,
            self._keys[0],
            self._keys[1],
            self._ceiling,
            self._f_cnt_down,
            self.rx1_delay_s,
            self.rx1_offset,
            self.rx2_dr,
            self.dr,
            self.power,
            self.nb_trans,
            self.duty_shift,
            self.mask,
            self.rx2_hz,
            *self.channels,
        )

    def state(self) -> bytes:
        """Everything, exact, for memory that survives sleep; at most 300 bytes, with a checksum."""
        live = struct.pack(
            _LIVE,
            self._f_cnt_up,
            self._adr_count,
            self._ack_due,
            self._join_age_s,
            self._join_wait_ms,
            self._join_tries,
            len(self.sticky),
            self.sticky,
            len(self.once),
            self.once,
        )
        blob: bytes = self._stored() + live + self._ledger.pack()
        blob += crc32(blob).to_bytes(4, "little")
        return blob

    def _load_kept(self, kept: "bytes | None") -> bool:
        size = _HEAD_SIZE + _SESSION_SIZE
        if kept is None or len(kept) != size + _LIVE_SIZE + LEDGER_SIZE + 4:
            return False
        if crc32(kept[:-4]) != int.from_bytes(kept[-4:], "little") or kept[1:5] != self._owner.to_bytes(4, "little"):
            return False
        if not self._load_fields(kept[:size]):
            return False
        live = struct.unpack(_LIVE, kept[size : size + _LIVE_SIZE])
        self._f_cnt_up, self._adr_count, self._ack_due, self._join_age_s, self._join_wait_ms = live[:5]
        self._join_tries = live[5]
        self.sticky = live[7][: live[6]]
        self.once = live[9][: live[8]]
        self._ledger.unpack(kept[size + _LIVE_SIZE : -4])
        return True

    def _load_stored(self, stored: "bytes | None") -> None:
        if stored is None or not self._load_fields(stored):
            return
        self._f_cnt_up = self._ceiling
        # What was reserved may have been used up to the last frame, just before the power went.
        for band in range(len(self._reserved)):
            self._ledger.spend(band, self._reserved[band])

    def _load_fields(self, blob: bytes) -> bool:
        if len(blob) != _HEAD_SIZE + _SESSION_SIZE or blob[0] != VERSION:
            return False
        head = struct.unpack(_HEAD, blob[:_HEAD_SIZE])
        self._reserved = list(head[4:10])
        self._next_nonce = head[2]
        if head[1] != self._owner:
            # Another key or EUI: airtime and DevNonce go on, the session is not ours.
            return True
        self._join_nonce = head[3]
        part = struct.unpack(_SESSION, blob[_HEAD_SIZE:])
        self._dev_addr, self._ceiling, self._f_cnt_down = part[0], part[3], part[4]
        self.rx1_delay_s, self.rx1_offset, self.rx2_dr, self.dr, self.power = part[5:10]
        self.nb_trans, self.duty_shift, self.mask, self.rx2_hz = part[10:14]
        self.channels = list(part[14:])
        if head[10]:
            self._use_keys(part[1], part[2])
        return True

    def _use_keys(self, nwk_s_key: bytes, app_s_key: bytes) -> None:
        self._keys = (nwk_s_key, app_s_key)
        self._net = self._cipher(nwk_s_key)
        self._application = self._cipher(app_s_key)
        self.joined = True

    # Time.

    def advance(self, ms: int) -> None:
        """Let `ms` pass for duty cycle and join back-off: the whole of it while awake, 90 % of a sleep."""
        self._ledger.advance(ms)
        self._join_wait_ms = max(0, self._join_wait_ms - ms)
        if self._join_age_s:
            self._join_age_s = min(self._join_age_s + ms // 1000, NEVER)

    def join_wait_ms(self) -> int:
        """How long a join must still wait."""
        return self._join_wait_ms

    # Joining.

    def join(self) -> "list[Action]":
        """A join-request; raises MacError `wait`, `duty` or `exhausted`."""
        if self._join_wait_ms:
            raise MacError("wait")
        if self._next_nonce > 0xFFFF:
            raise MacError("exhausted")
        # Every second try reaches further, and after the slowest rate it begins anew.
        self._tx_dr = self._first_dr - self._join_tries // 2 % (self._first_dr + 1)
        self._phy = frames.build_join_request(self._app, self._join_eui, self._dev_eui, self._next_nonce)
        sent = self._transmit(eu868.JOIN_CHANNELS_HZ, eu868.JOIN_DELAY_S, True)
        self._back_off()
        return sent

    def _back_off(self) -> None:
        # LoRaWAN 1.0.4, chapter 7: 36 s in the first hour, 36 s in the next ten, 8.7 s a day from then on.
        airtime_ms = airtime_us(len(self._phy), eu868.SF[self._tx_dr]) // 1000 + 1
        # A little more than the quotients, because a try at the very start of a period counts in full.
        factor = 100 if self._join_age_s < 3600 else 1100 if self._join_age_s < 39600 else 12000
        self._join_age_s = self._join_age_s or 1
        self._join_tries = min(self._join_tries + 1, 255)
        self._join_wait_ms = airtime_ms * factor * (256 + self._random(1)[0]) // 256

    def on_accept(self, phy: bytes) -> "list[Action] | None":
        """What came after a join-request: None if it is no accept for this device."""
        try:
            accept = frames.parse_join_accept(self._app, phy)
        except frames.FrameError:
            return None
        offset, rx2_dr = accept.dl_settings >> 4 & 7, accept.dl_settings & 15
        # A JoinNonce never comes twice (section 6.2.4).
        if accept.join_nonce <= self._join_nonce or rx2_dr > eu868.MAX_DR or offset > eu868.MAX_RX1_OFFSET:
            return None
        self._forget_session()
        self.dr = self._tx_dr
        self._dev_addr = accept.dev_addr
        self._use_keys(*session_keys(self._app, accept.join_nonce, accept.net_id, self._next_nonce - 1))
        self._join_nonce = accept.join_nonce
        self.rx1_delay_s, self.rx1_offset, self.rx2_dr = accept.rx_delay_s, offset, rx2_dr
        for index, freq_hz in enumerate(accept.cf_list):
            if eu868.sub_band(freq_hz) >= 0:
                self.channels[3 + index] = freq_hz
                self.mask |= 8 << index
        self._join_age_s = self._join_wait_ms = self._join_tries = 0
        self._ceiling = 0
        return [("persist", self._stored())]

    # Data.

    def send(self, f_port: int, payload: bytes, confirmed: bool = False) -> "list[Action]":
        """One uplink; raises MacError `no session`, `exhausted`, `too long` or `duty`, and then nothing has changed."""
        if not self.joined:
            raise MacError("no session")
        if self.exhausted():
            raise MacError("exhausted")
        room = eu868.MAX_PAYLOAD[self.dr] - len(payload)
        if room < 0:
            raise MacError("too long")
        f_opts = self.sticky + self.once
        answers_fit = len(f_opts) <= room
        if not answers_fit:
            f_opts = b""
        f_ctrl = frames.ADR
        if self._adr_count >= ADR_ACK_LIMIT:
            f_ctrl |= frames.ADR_ACK_REQ
        if self._ack_due:
            f_ctrl |= frames.ACK
        m_type = frames.CONFIRMED_UP if confirmed else frames.DATA_UP
        self._phy = frames.build_data(
            m_type, self._net, self._application, self._dev_addr, f_ctrl, self._f_cnt_up, f_opts, f_port, payload
        )
        self._tx_dr = self.dr
        sent = self._transmit(self._enabled(), self.rx1_delay_s, False)
        if answers_fit:
            self.once = b""
        self._ack_due = False
        return sent

    def repeat(self) -> "list[Action]":
        """The last uplink again on another channel (NbTrans); raises MacError `duty`."""
        return self._transmit(self._enabled(), self.rx1_delay_s, None)

    def _enabled(self) -> "list[int]":
        return [freq_hz for index, freq_hz in enumerate(self.channels) if freq_hz and self.mask >> index & 1]

    def _transmit(
        self, channels_hz: "list[int] | tuple[int, ...]", rx1_delay_s: int, join: "bool | None"
    ) -> "list[Action]":
        # `join` None repeats a frame: its counter is already taken.
        sf = eu868.SF[self._tx_dr]
        airtime_ms = airtime_us(len(self._phy), sf) // 1000 + 1
        free = [hz for hz in channels_hz if self._ledger.fits(eu868.sub_band(hz), airtime_ms, self.duty_shift)]
        if not free:
            raise MacError("duty")
        freq_hz = free[self._random(1)[0] % len(free)]
        band = eu868.sub_band(freq_hz)
        self._ledger.spend(band, airtime_ms)
        persist = False
        if self._ledger.used_ms(band) > self._reserved[band]:
            for each in range(len(self._reserved)):
                used_ms = self._ledger.used_ms(each)
                self._reserved[each] = min(used_ms + RESERVE_MS, 65535) if used_ms else 0
            persist = True
        if join:
            self._next_nonce += 1
            persist = True
        elif join is False:
            if self._f_cnt_up >= self._ceiling:
                self._ceiling = min(self._f_cnt_up + self._step, frames.MAX_F_CNT)
                persist = True
            self._f_cnt_up += 1
            self._count_silence()
        self.received = None
        self.acknowledged = self.more_pending = False
        rx1_sf = eu868.SF[eu868.rx1_dr(self._tx_dr, 0 if join else self.rx1_offset)]
        rx2_sf = eu868.SF[eu868.RX2_DR if join else self.rx2_dr]
        power_dbm = eu868.MAX_POWER_DBM - 2 * self.power
        actions: "list[Action]" = [("persist", self._stored())] if persist else []
        return actions + [
            ("transmit", freq_hz, sf, power_dbm, self._phy),
            ("listen", rx1_delay_s * 1000, freq_hz, rx1_sf),
            ("listen", rx1_delay_s * 1000 + 1000, eu868.RX2_HZ if join else self.rx2_hz, rx2_sf),
        ]

    def _count_silence(self) -> None:
        """Section 4.3.1.1: with no downlink for long first full power, then a slower rate, at last a new join."""
        self._adr_count = min(self._adr_count + 1, 65535)
        late = self._adr_count - ADR_ACK_LIMIT
        if late <= 0 or late % ADR_ACK_DELAY:
            return
        if self.power:
            self.power = 0
        elif self.dr:
            self.dr -= 1
        else:
            self.mask, self.nb_trans = self.mask | 7, 1

    def exhausted(self) -> bool:
        """True once the session's counter is used up: it can send nothing more."""
        return self._f_cnt_up >= frames.MAX_F_CNT

    def lost(self) -> bool:
        """True once everything has been tried for a long time and no downlink came: time for a new join."""
        if self.exhausted():
            return True
        return self.dr == 0 and self._adr_count > ADR_ACK_LIMIT + 16 * ADR_ACK_DELAY

    def on_frame(self, phy: bytes, snr_db: int) -> "list[Action] | None":
        """What came in a window after an uplink: None if it is no new frame for this device.

        Afterwards `received` is (port, payload) or None, `acknowledged` and `more_pending` tell of the frame.
        """
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
        self._f_cnt_down = f_cnt + 1
        self._adr_count = 0
        self.snr_db = snr_db
        self.sticky = b""
        self._ack_due = frame.m_type == frames.CONFIRMED_DOWN
        self.acknowledged = bool(frame.f_ctrl & frames.ACK)
        self.more_pending = bool(frame.f_ctrl & frames.F_PENDING)
        if frame.f_port:
            self.received = (frame.f_port, payload)
        mac_commands.answer(self, payload if frame.f_port == 0 else frame.f_opts)
        return [("persist", self._stored())]

    def reply(self, answer: bytes, sticky: bool = False) -> None:
        """An answer to a MAC command, for the next uplink; sticky ones go on until a downlink comes (section 5)."""
        if len(self.sticky) + len(self.once) + len(answer) > 15:
            return
        if sticky:
            self.sticky += answer
        else:
            self.once += answer
