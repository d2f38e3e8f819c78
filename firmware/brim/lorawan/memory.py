"""All that the device remembers between two calls, and how it is written down: exact for memory that survives sleep,
with ceilings and reserves for flash."""

import struct
from binascii import crc32

from brim.lorawan import eu868, frames
from brim.lorawan.ledger import SIZE as LEDGER_SIZE
from brim.lorawan.ledger import Ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from brim.lorawan.crypto import Cipher

VERSION = 2
# version, owner, next DevNonce, least JoinNonce, reserved ms per sub-band, joined.
# The head is the same in every version: no other firmware may forget a nonce or airtime.
_HEAD = "<BIII6HB"
# DevAddr, NwkSKey, AppSKey, FCntUp ceiling, next FCntDown, RX1 delay, RX1 offset, RX2 DR, DR, power, NbTrans, duty,
# join tries, channel mask. Frequencies follow, 3 bytes each: channels from 3 on, RX1 of each channel, RX2; then the
# rates of the channels from 3 on.
_SESSION = "<4s16s16sIIBBBBBBBBH"
# next FCntUp, ADR counter, flags and lengths, patience, join wait ms, join age, silence, answers, questions
_LIVE = "<IHBBIHH15s2s"
_HEAD_SIZE = 26
_FIELDS_SIZE = _HEAD_SIZE + 54
_FIXED = len(eu868.JOIN_CHANNELS_HZ)
_FREE = eu868.MAX_CHANNELS - _FIXED
_RATES_AT = _FIELDS_SIZE + 3 * (_FREE + eu868.MAX_CHANNELS + 1)
STORED_SIZE = _RATES_AT + _FREE
_STORED_SIZES = {1: 147, VERSION: STORED_SIZE}
_LIVE_SIZE = 33
ALL_RATES = eu868.MAX_DR << 4
MAX_ANSWERS = 15


def _pack_hz(frequencies_hz: "list[int]") -> bytearray:
    packed = bytearray()
    for freq_hz in frequencies_hz:
        packed += (freq_hz // 100).to_bytes(3, "little")
    return packed


class Memory:
    """`owner`: a checksum of the identity; a session of another identity is forgotten, its nonces and airtime are not.

    Public are the settings that a network may change. `channels` and `rx1_hz`: 16 frequencies, 0 = none (for RX1: that
    of the uplink). `rates`: a byte per channel, highest data rate << 4 | lowest.
    """

    def __init__(self, app: "Cipher", make_cipher: "Callable[[bytes], Cipher]", owner: int) -> None:
        self._app = app
        self._cipher = make_cipher
        self._owner = owner
        self._ledger = Ledger()
        self._reserved = [0] * len(eu868.SUB_BANDS)
        self._next_nonce = 1
        self._least_join_nonce = 0
        self._join_age = self._join_wait_ms = self._join_tries = 0
        self.questions = b""
        self._forget_session()

    def _forget_session(self) -> None:
        self.joined = False
        self._dev_addr = bytes(4)
        self._keys = (bytes(16), bytes(16))
        self._net = self._application = self._app
        self._f_cnt_up = self._ceiling = self._f_cnt_down = 0
        self.rx1_delay_s, self.rx1_offset, self.rx2_dr, self.rx2_hz = eu868.RX1_DELAY_S, 0, eu868.RX2_DR, eu868.RX2_HZ
        self.dr, self.power, self.nb_trans, self.duty_shift = eu868.MAX_DR, 0, 1, 0
        self.channels = list(eu868.JOIN_CHANNELS_HZ) + [0] * _FREE
        self.rx1_hz = [0] * eu868.MAX_CHANNELS
        self.rates = bytearray([ALL_RATES] * eu868.MAX_CHANNELS)
        self.mask = 7
        self.answers = b""
        self._ack_due = False
        self._adr_count = self._silent = self._patience = 0

    def _use_keys(self, nwk_s_key: bytes, app_s_key: bytes) -> None:
        self._keys = (nwk_s_key, app_s_key)
        self._net = self._cipher(nwk_s_key)
        self._application = self._cipher(app_s_key)
        self.joined = True

    def _stored(self) -> bytes:
        """What flash keeps: enough to go on without using a number twice."""
        head = struct.pack(
            _HEAD, VERSION, self._owner, self._next_nonce, self._least_join_nonce, *self._reserved, self.joined
        )
        session = struct.pack(
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
            self._join_tries,
            self.mask,
        )
        return head + session + _pack_hz(self.channels[_FIXED:] + self.rx1_hz + [self.rx2_hz]) + self.rates[_FIXED:]

    def state(self) -> bytes:
        """Everything, exact, for memory that survives sleep; at most 300 bytes, with a checksum."""
        blob: bytes = (
            self._stored()
            + struct.pack(
                _LIVE,
                self._f_cnt_up,
                self._adr_count,
                self._ack_due | len(self.questions) << 1 | len(self.answers) << 4,
                self._patience,
                self._join_wait_ms,
                self._join_age,
                self._silent,
                self.answers,
                self.questions,
            )
            + self._ledger.pack()
        )
        blob += crc32(blob).to_bytes(4, "little")
        return blob

    def _load_kept(self, kept: "bytes | None") -> bool:
        live_end = STORED_SIZE + _LIVE_SIZE
        if kept is None or len(kept) != live_end + LEDGER_SIZE + 4 or kept[0] != VERSION:
            return False
        if crc32(kept[:-4]) != int.from_bytes(kept[-4:], "little") or kept[1:5] != self._owner.to_bytes(4, "little"):
            return False
        self._load_fields(kept[:STORED_SIZE])
        live = struct.unpack(_LIVE, kept[STORED_SIZE:live_end])
        self._f_cnt_up, self._adr_count, flags, self._patience, self._join_wait_ms = live[:5]
        self._join_age, self._silent = live[5:7]
        self._ack_due = bool(flags & 1)
        self.answers, self.questions = live[7][: flags >> 4], live[8][: flags >> 1 & 3]
        self._ledger.unpack(kept[live_end:-4])
        return True

    def _load_stored(self, stored: "bytes | None") -> None:
        if stored is None or not self._load_fields(stored):
            return
        self._f_cnt_up = self._ceiling
        # What was reserved may have been used up to the last frame, just before the power went.
        for band in range(len(self._reserved)):
            self._ledger.spend(band, self._reserved[band])

    def _load_fields(self, blob: bytes) -> bool:
        if not blob or len(blob) != _STORED_SIZES.get(blob[0], 0):
            return False
        head = struct.unpack(_HEAD, blob[:_HEAD_SIZE])
        self._reserved = list(head[4:10])
        self._next_nonce = head[2]
        if head[1] != self._owner:
            return True
        # Version 1 wrote down the last one.
        self._least_join_nonce = head[3] + (blob[0] == 1)
        if blob[0] != VERSION:
            return True
        part = struct.unpack(_SESSION, blob[_HEAD_SIZE:_FIELDS_SIZE])
        self._dev_addr, self._ceiling, self._f_cnt_down = part[0], part[3], part[4]
        self.rx1_delay_s, self.rx1_offset, self.rx2_dr, self.dr, self.power = part[5:10]
        self.nb_trans, self.duty_shift, self._join_tries, self.mask = part[10:]
        hz = [int.from_bytes(blob[at : at + 3], "little") * 100 for at in range(_FIELDS_SIZE, _RATES_AT, 3)]
        self.channels[_FIXED:] = hz[:_FREE]
        self.rx1_hz = hz[_FREE:-1]
        self.rx2_hz = hz[-1]
        self.rates[_FIXED:] = blob[_RATES_AT:]
        if head[10]:
            self._use_keys(part[1], part[2])
        return True

    def exhausted(self) -> bool:
        """True once the session's counter is used up: it can send nothing more."""
        return self._f_cnt_up >= frames.MAX_F_CNT
