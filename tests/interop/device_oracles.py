"""Strangers for the device's MAC: pamoja's device and network in Rust (MIT), liblora of Semtech's Basic MAC (BSD)."""

from __future__ import annotations

import importlib
import random
import warnings
from typing import Any

from brim.lorawan import frames
from brim.lorawan.crypto import session_keys
from brim.lorawan.mac import Mac
from brim_gateway.network.session import EcbCipher
from pamoja._native import LoraLink, LorawanDeviceSettings, LorawanEndDevice, LorawanSession
from pamoja.gateway import Network, Rxpk
from pamoja.lora import plan_for

with warnings.catch_warnings():
    # Its docstrings have stray backslashes.
    warnings.simplefilter("ignore")
    loramsg: Any = importlib.import_module("loramsg")

DEV_EUI = bytes.fromhex("70b3d57ed0000001")
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
NET_ID = 0x13
PLAN = plan_for("EU868")
HOUR_MS = 3_600_000


def device(seed: int, flash: bytes | None = None) -> Mac:
    """Our MAC, with nobody waiting."""
    mac = Mac(DEV_EUI, JOIN_EUI, APP_KEY, EcbCipher, random.Random(seed).randbytes, lambda: flash, None)
    mac.hurry()
    return mac


def parts(actions: list[Any]) -> tuple[Any, list[Any]]:
    """The transmission and the windows of some actions."""
    return next(a for a in actions if a[0] == "transmit"), [a for a in actions if a[0] == "listen"]


def liblora_reads(phy: bytes, f_cnt: int, keys: tuple[bytes, bytes]) -> dict[str, Any]:
    """The fields of an uplink of ours as liblora sees them; it raises VerifyError where the MIC is wrong."""
    read: dict[str, Any] = loramsg.unpack_dataframe(phy, f_cnt, *keys)
    return read


def liblora_checks_request(phy: bytes) -> None:
    """A join-request of ours; raises VerifyError."""
    loramsg.verify_jreq(APP_KEY, phy)


class Site:
    """pamoja's network server, in whose sight one bin of ours lives."""

    def __init__(self, seed: int = 1, **options: Any) -> None:
        self.network = Network(PLAN, NET_ID, **options)
        self.network.register(DEV_EUI, JOIN_EUI, APP_KEY)
        self.mac = device(seed)
        self.keys = (bytes(16), bytes(16))
        self.now_us = 0
        self.sent: Any = None
        self.windows: list[Any] = []

    def put_on_air(self, actions: list[Any]) -> Any:
        """What the network makes of a transmission of ours."""
        self.sent, self.windows = parts(actions)
        _, freq_hz, sf, _, phy = self.sent
        self.now_us += 60_000_000
        heard = Rxpk(freq_hz, phy, link=LoraLink(sf, 125_000), timestamp_us=self.now_us, snr_db=5.0, rssi_dbm=-80.0)
        return self.network.uplink(heard)

    def in_a_window(self, txpk: Any) -> bool:
        """Is this sent when, where and how our device listens?"""
        return any(
            (self.now_us + delay_ms * 1000, freq_hz, sf)
            == (txpk.timestamp_us, txpk.frequency_hz, txpk.link.spreading_factor)
            for _, delay_ms, freq_hz, sf in self.windows
        ) and bool(txpk.invert_polarity)

    def join(self) -> Any:
        """A join that succeeds; gives the network's event."""
        actions = self.mac.join()
        request = parts(actions)[0][4]
        liblora_checks_request(request)
        event = self.put_on_air(actions)
        accept = frames.parse_join_accept(EcbCipher(APP_KEY), event.accept.payload)
        nonce = frames.parse_join_request(request)[2]
        self.keys = session_keys(EcbCipher(APP_KEY), accept.join_nonce, NET_ID, nonce)
        return event

    def uplink(self, payload: bytes, f_cnt: int, confirmed: bool = False) -> tuple[Any, dict[str, Any]]:
        """One uplink: what the network says of it, and what liblora reads in it."""
        actions = self.mac.send(1, payload, confirmed)
        read = liblora_reads(parts(actions)[0][4], f_cnt, self.keys)
        return self.put_on_air(actions), read


class Twins:
    """Our MAC and pamoja's device in one session: the same address, keys and downlinks, so the same frames are due."""

    def __init__(self, seed: int, f_cnt_up: int = 0, f_cnt_down: int = 0) -> None:
        """The counters are the next ones."""
        addr = b"\x44\x33\x22\x01"
        app = EcbCipher(APP_KEY)
        self.ours = device(seed)
        self.ours.join()
        accept = frames.build_join_accept(app, frames.Accept(1, NET_ID, addr, 0, 1, []))
        assert self.ours.on_accept(accept) is not None
        self.keys = session_keys(app, 1, NET_ID, 1)
        self.session = LorawanSession(int.from_bytes(addr, "little"), *self.keys)
        settings = LorawanDeviceSettings(0, 22, seed=seed, regional_duty_cycle=False)
        self.theirs = LorawanEndDevice.personalized(
            PLAN, self.session, settings, f_cnt_up, f_cnt_down - 1 if f_cnt_down else None
        )
        self.ours.dr = self.theirs.data_rate
        self.ours._f_cnt_up, self.ours._f_cnt_down = f_cnt_up, f_cnt_down
        self.now_us = 0
        self.f_cnt_down = f_cnt_down

    def uplink(self, payload: bytes, confirmed: bool = False) -> tuple[list[Any], Any]:
        """The same uplink of both, an hour after the one before."""
        self.now_us += HOUR_MS * 1000
        self.ours.advance(HOUR_MS)
        return self.ours.send(1, payload, confirmed), self.theirs.send(1, payload, self.now_us, confirmed)

    def downlink(self, commands: bytes, confirmed: bool = False, ack: bool = False) -> None:
        """The same downlink to both; commands that do not fit in FOpts go on port 0."""
        if len(commands) <= 15:
            phy = self.session.encode_downlink(
                self.f_cnt_down, 2, b"x", confirmed=confirmed, ack=ack, fopts=commands or None
            )
        else:
            phy = self.session.encode_downlink(self.f_cnt_down, 0, commands, confirmed=confirmed, ack=ack)
        self.f_cnt_down += 1
        self.theirs.heard(phy, 5)
        assert self.ours.on_frame(phy, 5) is not None

    def silence(self) -> None:
        """Nothing comes; pamoja's device finishes its repeats."""
        while self.theirs.nothing_heard(self.now_us + 10_000_000).kind == "repeat":
            self.now_us += 600_000_000
            self.ours.advance(600_000)
            self.theirs.repeat(self.now_us)
