"""The rows that the network server works on. The store keeps them; `as_dict` makes them JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from msgspec.structs import force_setattr

Counter = Literal["strict", "volatile"]
DevNonce = Literal["rising", "random"]

MAX_COUNTER = 0xFFFFFFFF
# Of a device that draws its DevNonce: so many last ones are remembered.
MAX_NONCES = 64
MAX_ASKED_BYTES = 51

# Keys that stand in books, data sheets and example code: whoever reads them can forge readings.
PUBLIC_KEYS = frozenset(
    bytes.fromhex(key)
    for key in (
        "2b7e151628aed2a6abf7158809cf4f3c",  # FIPS-197, and the default of Semtech's and many makers' examples
        "000102030405060708090a0b0c0d0e0f",  # FIPS-197 appendix C.1
        "0102030405060708090a0b0c0d0e0f10",
        "00112233445566778899aabbccddeeff",
        "ffeeddccbbaa99887766554433221100",
        "0123456789abcdef0123456789abcdef",
        "5572404c696e6b4c6f52613230313823",  # "Ur@LinkLoRa2018#", default of a large maker of sensors
        "8d7ffef938589d95aad928c2e2e7e48f",
        "5a6967426565416c6c69616e63653039",  # "ZigBeeAlliance09"
    )
)


_SECRET = ("app_key", "nwk_s_key", "app_s_key")


class DeviceInvalid(ValueError):
    """A device row breaks a rule; the text names the field and never a key."""


def is_public_key(key: bytes) -> bool:
    """True for a key that everybody knows: printed ones and those that repeat one byte."""
    return key in PUBLIC_KEYS or len(set(key)) == 1


def _hex_field(name: str, value: str, length: int) -> None:
    if len(value) != 2 * length or value.strip("0123456789abcdef"):
        raise DeviceInvalid(f"{name}: must be {2 * length} lower-case hexadecimal digits")


def _bytes_field(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise DeviceInvalid(f"{name}: must be {length} bytes")


def _int_field(name: str, value: int, low: int, high: int) -> None:
    if not isinstance(value, int) or not low <= value <= high:
        raise DeviceInvalid(f"{name}: must be {low} to {high}")


def _shown(row: msgspec.Struct) -> list[tuple[str, Any]]:
    """What a log or a traceback may show."""
    return [(name, getattr(row, name)) for name in row.__struct_fields__ if name not in _SECRET]


def _without_keys(row: msgspec.Struct) -> str:
    return f"{type(row).__name__}({', '.join(f'{name}={value!r}' for name, value in _shown(row))})"


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame of a device with a volatile counter: what is needed to know it again."""

    digest: int
    time_us: int
    tmst_us: int
    gateway: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Airtime that a downlink to this device took: the duty ledger is rebuilt from these after a restart."""

    gateway: str
    band: str
    end_us: int
    airtime_us: int


class Agreed(msgspec.Struct, frozen=True):
    """What a device has taken of the server's MAC commands since its join.

    `mask` 0: its channels are those that the join gave. `asked`: commands sent and not yet answered. `refused`:
    (command identifier, how often, the status bits that were never refused).
    """

    power: int = 0
    nb_trans: int = 1
    mask: int = 0
    asked: bytes = b""
    refused: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        _int_field("power", self.power, 0, 15)
        _int_field("nb_trans", self.nb_trans, 1, 15)
        _int_field("mask", self.mask, 0, 0xFFFF)
        if len(self.asked) > MAX_ASKED_BYTES:
            raise DeviceInvalid("asked: too long")
        for entry in self.refused:
            for number in entry:
                _int_field("refused", number, 0, 0xFF)

    def as_list(self) -> list[Any]:
        """JSON-ready."""
        return [self.power, self.nb_trans, self.mask, self.asked.hex(), [list(entry) for entry in self.refused]]

    @classmethod
    def from_list(cls, values: list[Any]) -> Agreed:
        """The inverse of `as_list`."""
        power, nb_trans, mask, asked, refused = values
        return cls(power, nb_trans, mask, bytes.fromhex(asked), tuple((cid, n, bits) for cid, n, bits in refused))


_AS_JOINED = Agreed()


@dataclass(frozen=True, slots=True)
class Status:
    """A DevStatusAns. `battery`: 0 external power, 1 to 254 empty to full, 255 unknown; `margin_db`: of the device."""

    at_us: int
    battery: int
    margin_db: int


class Session(msgspec.Struct, frozen=True):
    """Keys and counters between two joins.

    `f_cnt_up` is the last counter accepted (None: none yet), `f_cnt_down` the next one to use. `number` is 0 for keys
    given at registration, otherwise the JoinNonce that made the session.
    """

    number: int
    dev_addr: str
    nwk_s_key: bytes
    app_s_key: bytes
    f_cnt_up: int | None = None
    f_cnt_down: int = 0
    rx1_delay_s: int = 1
    rx1_dr_offset: int = 0
    rx2_dr: int = 3
    rx2_freq_hz: int = 869_525_000
    heard: tuple[Heard, ...] = ()
    agreed: Agreed = _AS_JOINED

    def __post_init__(self) -> None:
        _hex_field("dev_addr", self.dev_addr, 4)
        _bytes_field("nwk_s_key", self.nwk_s_key, 16)
        _bytes_field("app_s_key", self.app_s_key, 16)
        if self.f_cnt_up is not None:
            _int_field("f_cnt_up", self.f_cnt_up, 0, MAX_COUNTER)
        # One beyond the last counter says that the session can send nothing more.
        _int_field("f_cnt_down", self.f_cnt_down, 0, MAX_COUNTER + 1)
        _int_field("number", self.number, 0, 0xFFFFFF)
        _int_field("rx1_delay_s", self.rx1_delay_s, 1, 15)
        _int_field("rx1_dr_offset", self.rx1_dr_offset, 0, 5)
        _int_field("rx2_dr", self.rx2_dr, 0, 5)
        _int_field("rx2_freq_hz", self.rx2_freq_hz, 863_000_000, 870_000_000)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _shown(self)

    def __repr__(self) -> str:
        return _without_keys(self)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; contains the keys."""
        values: dict[str, Any] = {
            "number": self.number,
            "dev_addr": self.dev_addr,
            "nwk_s_key": self.nwk_s_key.hex(),
            "app_s_key": self.app_s_key.hex(),
            "f_cnt_up": self.f_cnt_up,
            "f_cnt_down": self.f_cnt_down,
            "rx1_delay_s": self.rx1_delay_s,
            "rx1_dr_offset": self.rx1_dr_offset,
            "rx2_dr": self.rx2_dr,
            "rx2_freq_hz": self.rx2_freq_hz,
            "heard": [[h.digest, h.time_us, h.tmst_us, h.gateway] for h in self.heard],
        }
        if self.agreed != _AS_JOINED:
            values["agreed"] = self.agreed.as_list()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Session:
        """The inverse of `as_dict`; raises DeviceInvalid."""
        known = dict(values)
        try:
            heard = tuple(Heard(*entry) for entry in known.pop("heard", ()))
            agreed = Agreed.from_list(known.pop("agreed")) if "agreed" in known else _AS_JOINED
            keys: dict[str, Any] = {name: bytes.fromhex(known.pop(name)) for name in ("nwk_s_key", "app_s_key")}
            return cls(**known, **keys, heard=heard, agreed=agreed)
        except (KeyError, TypeError, AttributeError):
            raise DeviceInvalid("session: a field is missing, unknown or of the wrong type") from None
        except ValueError as error:
            if isinstance(error, DeviceInvalid):
                raise
            raise DeviceInvalid("session: a key is not hexadecimal, or a list has the wrong length") from None


class DeviceRow(msgspec.Struct, frozen=True):
    """One LoRaWAN device. EUIs are 16 lower-case hex digits, most significant byte first.

    `last_dev_nonce` is the last DevNonce accepted, `join_nonce` the last JoinNonce given away. `pending` is the session
    that a join made and no uplink has proved yet; `session` stays usable until then. `sent` is at most one hour of
    downlink airtime. `dev_nonce` "random" is for a device older than LoRaWAN 1.0.4 that draws its DevNonce: the last
    ones are remembered in `used_nonces` and refused.
    """

    dev: str
    join_eui: str = "0000000000000000"
    app_key: bytes | None = None
    counter: Counter = "strict"
    allow_public_key: bool = False
    last_dev_nonce: int | None = None
    join_nonce: int = 0
    session: Session | None = None
    pending: Session | None = None
    sent: tuple[Sent, ...] = ()
    dev_nonce: DevNonce = "rising"
    used_nonces: tuple[int, ...] = ()
    status: Status | None = None

    def __post_init__(self) -> None:
        _hex_field("dev", self.dev, 8)
        _hex_field("join_eui", self.join_eui, 8)
        if self.app_key is not None:
            _bytes_field("app_key", self.app_key, 16)
        if self.counter not in ("strict", "volatile"):
            raise DeviceInvalid("counter: must be strict or volatile")
        if self.dev_nonce not in ("rising", "random"):
            raise DeviceInvalid("dev_nonce: must be rising or random")
        if len(self.used_nonces) > MAX_NONCES:
            raise DeviceInvalid(f"used_nonces: at most {MAX_NONCES}")
        for nonce in self.used_nonces:
            _int_field("used_nonces", nonce, 0, 0xFFFF)
        if self.last_dev_nonce is not None:
            _int_field("last_dev_nonce", self.last_dev_nonce, 0, 0xFFFF)
        _int_field("join_nonce", self.join_nonce, 0, 0xFFFFFF)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _shown(self)

    def __repr__(self) -> str:
        return _without_keys(self)

    def has_public_key(self) -> bool:
        """True if any key of this device is a known public one."""
        keys = [self.app_key] if self.app_key is not None else []
        for session in (self.session, self.pending):
            # Keys derived from a public AppKey are caught by the AppKey itself.
            if session is not None and session.number == 0:
                keys += [session.nwk_s_key, session.app_s_key]
        return any(is_public_key(key) for key in keys)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; contains the keys. Later additions are there only where they say something."""
        values: dict[str, Any] = {
            "dev": self.dev,
            "join_eui": self.join_eui,
            "app_key": None if self.app_key is None else self.app_key.hex(),
            "counter": self.counter,
            "allow_public_key": self.allow_public_key,
            "last_dev_nonce": self.last_dev_nonce,
            "join_nonce": self.join_nonce,
            "session": None if self.session is None else self.session.as_dict(),
            "pending": None if self.pending is None else self.pending.as_dict(),
            "sent": [[s.gateway, s.band, s.end_us, s.airtime_us] for s in self.sent],
        }
        if self.dev_nonce != "rising":
            values |= {"dev_nonce": self.dev_nonce, "used_nonces": list(self.used_nonces)}
        if self.status is not None:
            values["status"] = [self.status.at_us, self.status.battery, self.status.margin_db]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeviceRow:
        """The inverse of `as_dict`; raises DeviceInvalid."""
        known = dict(values)
        sessions: dict[str, Any] = {
            name: None if part is None else Session.from_dict(part)
            for name, part in ((name, known.pop(name, None)) for name in ("session", "pending"))
        }
        try:
            sent = tuple(Sent(*entry) for entry in known.pop("sent", ()))
            app_key = known.pop("app_key", None)
            status = Status(*known.pop("status")) if "status" in known else None
            nonces = tuple(known.pop("used_nonces", ()))
            key = None if app_key is None else bytes.fromhex(app_key)
            return cls(**known, **sessions, app_key=key, sent=sent, status=status, used_nonces=nonces)
        except TypeError:
            raise DeviceInvalid("device: a field is missing, unknown or of the wrong type") from None
        except ValueError as error:
            if isinstance(error, DeviceInvalid):
                raise
            raise DeviceInvalid("device: app_key is not hexadecimal") from None


_Row = TypeVar("_Row", Agreed, Session, DeviceRow)


def changed(row: _Row, **changes: Any) -> _Row:
    """`msgspec.structs.replace` without the checks, for values that the server made itself: done at every uplink."""
    new = copy(row)
    for name, value in changes.items():
        force_setattr(new, name, value)
    return new


def with_used_counters(row: DeviceRow, now: DeviceRow) -> DeviceRow:
    """`row` with the counters that `now` may have sent under already: none of them may be used again."""
    sessions = {one.number: one for one in (now.session, now.pending) if one is not None}

    def used(session: Session | None) -> Session | None:
        known = sessions.get(session.number) if session is not None else None
        if session is None or known is None or known.dev_addr != session.dev_addr:
            return session
        return changed(session, f_cnt_down=max(session.f_cnt_down, known.f_cnt_down))

    return changed(
        row,
        join_nonce=max(row.join_nonce, now.join_nonce),
        session=used(row.session),
        pending=used(row.pending),
        sent=now.sent,
    )


def abp_session(dev_addr: str, nwk_s_key: bytes, app_s_key: bytes) -> Session:
    """A session given at registration (activation by personalisation): RX2 is the region's own, SF12."""
    return Session(0, dev_addr.lower(), nwk_s_key, app_s_key, rx2_dr=0)
