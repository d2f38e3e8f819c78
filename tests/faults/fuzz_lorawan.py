"""Frames on the air: what reaches the network server, and what reaches the device's MAC, under live sessions.

Whether a frame may be believed is judged apart from the code under test: by `cryptography`'s CMAC over a block B0 that
is put together here, and by counters that are kept here.
"""

from __future__ import annotations

import random

from brim.lorawan import frames
from brim.lorawan.mac import Mac, MacError
from brim_gateway.network.device import DeviceRow, Session
from brim_gateway.network.reception import Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from tests.faults.fuzz_inputs import Mutator

GATEWAY = "aa555a0000000101"
STATE_MOST = 300
UNCHANGED = 0.1
"""Of the inputs: whoever takes none of them tests nothing, and whoever refuses one is at fault."""
_REST_MS = 3_600_000
_OLD_MOST = 500
"""Frames that were taken, to be sent again: longer than a server knows a copy."""


def cmac4(key: bytes, message: bytes) -> bytes:
    """The first four bytes of a CMAC, as LoRaWAN cuts it."""
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()[:4]


def mic_holds(key: bytes, direction: int, f_cnt: int, phy: bytes) -> bool:
    """Whether a data frame carries the MIC of this key and 32-bit counter (LoRaWAN 1.0.4, section 4.4)."""
    body = phy[:-4]
    b0 = b"\x49\0\0\0\0" + bytes((direction,)) + phy[1:5] + f_cnt.to_bytes(4, "little") + b"\0" + bytes((len(body),))
    return cmac4(key, b0 + body) == phy[-4:]


class _Sender:
    """The far end of a session: signs what comes next."""

    def __init__(self, source: random.Random, session: Session, f_cnt: int) -> None:
        self.session, self.f_cnt = session, f_cnt
        self._random = source
        self._addr = bytes.fromhex(session.dev_addr)[::-1]
        self._network, self._application = EcbCipher(session.nwk_s_key), EcbCipher(session.app_s_key)

    def frame(self, m_types: tuple[int, ...]) -> bytes:
        """A valid frame under the next counter; its MAC commands are any bytes."""
        source = self._random
        f_port = source.choice((None, 0, 1, 2, 223))
        f_opts = b"" if f_port == 0 else source.randbytes(int(source.random() * 16))
        payload = b"" if f_port is None else source.randbytes(int(source.random() * 40))
        f_ctrl = source.choice((0, frames.ADR, frames.ACK, 0x40, 0x10))
        return frames.build_data(
            source.choice(m_types), self._network, self._application, self._addr, f_ctrl, self.f_cnt, f_opts, f_port,
            payload,
        )  # fmt: skip


class LorawanServer:
    """Uplinks and join-requests at a server with live sessions; two of the devices share an address."""

    name, live = "lorawan, server", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        # Address and last counter.
        known = (("26000001", None), ("26000001", 5), ("26000002", 0xFFF0), ("26000003", 70_000), ("01020304", None))
        sessions = [Session(0, addr, source.randbytes(16), source.randbytes(16), f_cnt_up=last) for addr, last in known]
        self._devs = [f"70b3d57ed000000{number}" for number in range(len(sessions))]
        self._senders = {
            dev: _Sender(source, one, 0 if one.f_cnt_up is None else one.f_cnt_up + 1)
            for dev, one in zip(self._devs, sessions, strict=True)
        }
        self._app_key, self._joiner = source.randbytes(16), "70b3d57ed00000aa"
        rows = [DeviceRow(dev, session=one) for dev, one in zip(self._devs, sessions, strict=True)]
        rows.append(DeviceRow(self._joiner, app_key=self._app_key))
        self._server = NetworkServer(rows, random_bytes=source.randbytes)
        self._now_us = 1_790_000_000_000_000
        self._accepted: dict[str, int] = {}
        self._nonce_accepted = -1
        self._unchanged = ""
        self._old: list[bytes] = []

    def make(self) -> bytes:
        source = self._random
        self._unchanged = ""
        if source.random() < 0.05 and self._nonce_accepted < 0xFFFF:
            owner, phy = self._joiner, self._request()
        else:
            owner = source.choice(self._devs)
            phy = self._senders[owner].frame((frames.DATA_UP, frames.CONFIRMED_UP))
        if source.random() < UNCHANGED:
            self._unchanged = owner
            return phy
        if self._old and source.random() < 0.05:
            return source.choice(self._old)
        return Mutator(source, [phy, *self._old[-3:]], most=300).one()

    def _request(self) -> bytes:
        eui = bytes.fromhex(self._joiner)
        return frames.build_join_request(EcbCipher(self._app_key), bytes(8), eui, self._nonce_accepted + 1)

    def feed(self, data: bytes) -> bool:
        self._now_us += 50_000
        reception = Reception(data, 868_100_000, 7, 125_000, -80.0, 5.0, self._now_us & 0xFFFFFFFF, GATEWAY)
        self._server.on_pull(GATEWAY, self._now_us)
        result = self._server.on_uplink(reception, self._now_us)
        if self._unchanged:
            # A join is refused, and nothing changes, while the hour's airtime for joins is used up.
            taken = result.kind in ("data", "join") or result.reason == "no airtime"
            assert taken and result.dev == self._unchanged, result
        if result.kind == "data":
            self._check_data(result, data)
        elif result.kind == "join":
            self._check_join(data)
        elif result.kind == "copy":
            assert data in self._old, "a copy of nothing"
        if result.kind in ("data", "join"):
            self._old = [*self._old[-_OLD_MOST:], data]
        if result.answer_due and result.dev is not None:
            self._server.answer(result.dev, self._now_us + 200_000)
        return result.kind != "refused"

    def _check_data(self, result: UplinkResult, data: bytes) -> None:
        assert result.dev is not None and result.f_cnt is not None
        session = self._senders[result.dev].session
        assert data[1:5] == bytes.fromhex(session.dev_addr)[::-1] and result.f_cnt & 0xFFFF == data[6] | data[7] << 8
        assert mic_holds(session.nwk_s_key, 0, result.f_cnt, data), "a frame that nobody signed was believed"
        assert result.f_cnt > self._accepted.get(result.dev, -1), "a counter was believed twice"
        self._accepted[result.dev] = result.f_cnt
        self._senders[result.dev].f_cnt = result.f_cnt + 1

    def _check_join(self, data: bytes) -> None:
        assert cmac4(self._app_key, data[:-4]) == data[-4:], "a join-request that nobody signed was believed"
        nonce = data[17] | data[18] << 8
        assert nonce > self._nonce_accepted, "a DevNonce was believed twice"
        self._nonce_accepted = nonce

    def close(self) -> None:
        assert self._accepted.keys() == set(self._devs)


class LorawanDevice:
    """Downlinks and join-accepts at a bin's MAC. Correctly signed frames carry any bytes as MAC commands."""

    name, live = "lorawan, device", False

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._app_key = source.randbytes(16)
        self._flash: bytes | None = None
        self._join_nonce = 0
        self._unchanged = False
        self._old: list[bytes] = []
        self._mac = self._boot()
        self._server: _Sender | None = None
        self._dev_nonce = 0

    def _boot(self, kept: bytes | None = None) -> Mac:
        source = self._random
        return Mac(bytes(8), bytes(8), self._app_key, EcbCipher, source.randbytes, lambda: self._flash, kept)

    def _carry_out(self, actions: list[tuple[object, ...]]) -> None:
        for action in actions:
            if action[0] == "persist":
                assert isinstance(action[1], bytes)
                self._flash = action[1]
            elif action[0] == "transmit" and isinstance(action[4], bytes) and action[4][0] == 0:
                self._dev_nonce = frames.parse_join_request(action[4])[2]

    def make(self) -> bytes:
        source = self._random
        self._unchanged = False
        phy = self._accept() if self._server is None else self._server.frame((frames.DATA_DOWN, frames.CONFIRMED_DOWN))
        if source.random() < UNCHANGED:
            self._unchanged = True
            return phy
        if self._old and source.random() < 0.05:
            return source.choice(self._old)
        return Mutator(source, [phy, *self._old[-3:]], most=300).one()

    def _accept(self) -> bytes:
        """Of the join that goes on; each has a session of its own."""
        source = self._random
        if not self._mac_waits_for_accept():
            while True:
                try:
                    self._carry_out(self._mac.join())
                    break
                except MacError:
                    self._mac.advance(_REST_MS)
        cf_list = [867_100_000 + 200_000 * at for at in range(5)] if source.random() < 0.5 else []
        accept = frames.Accept(self._join_nonce + 1, 0, source.randbytes(4), source.randrange(6), 1, cf_list)
        return frames.build_join_accept(EcbCipher(self._app_key), accept)

    def _mac_waits_for_accept(self) -> bool:
        return self._dev_nonce > 0

    def feed(self, data: bytes) -> bool:
        taken = self._join(data) if self._server is None else self._downlink(data, self._server)
        assert taken or not self._unchanged, "a good frame was refused"
        assert len(self._mac.state()) <= STATE_MOST
        if taken:
            self._old = [*self._old[-50:], data]
        return taken

    def _join(self, data: bytes) -> bool:
        actions = self._mac.on_accept(data)
        if actions is None:
            return False
        cipher = EcbCipher(self._app_key)
        plain = b"".join(cipher.encrypt(data[at : at + 16]) for at in range(1, len(data), 16))
        assert cmac4(self._app_key, data[:1] + plain[:-4]) == plain[-4:], "an accept that nobody signed was believed"
        join_nonce, seed = int.from_bytes(plain[:3], "little"), plain[:6] + self._dev_nonce.to_bytes(2, "little")
        assert join_nonce > self._join_nonce, "a JoinNonce was believed twice"
        self._join_nonce, self._dev_nonce = join_nonce, 0
        self._carry_out(actions)
        nwk_s_key, app_s_key = (cipher.encrypt(kind + seed + bytes(7)) for kind in (b"\x01", b"\x02"))
        self._server = _Sender(self._random, Session(join_nonce, plain[6:10][::-1].hex(), nwk_s_key, app_s_key), 0)
        return True

    def _downlink(self, data: bytes, server: _Sender) -> bool:
        actions = self._mac.on_frame(data, 5)
        if actions is None:
            return False
        f_cnt = server.f_cnt & ~0xFFFF | data[6] | data[7] << 8
        f_cnt += 0x10000 if f_cnt < server.f_cnt else 0
        assert mic_holds(server.session.nwk_s_key, 1, f_cnt, data), "a frame that nobody signed was believed"
        self._carry_out(actions)
        server.f_cnt = f_cnt + 1
        self._go_on()
        return True

    def _go_on(self) -> None:
        """An uplink with the answers; now and then a sleep, and a new join."""
        source = self._random
        try:
            self._carry_out(self._mac.send(1, b"x"))
        except MacError:
            self._mac.advance(_REST_MS)
        chance = source.random()
        if chance < 0.1:
            self._mac = self._boot(self._mac.state())
        if chance < 0.02:
            self._flash = None if self._join_nonce > 0xFF0000 else self._flash
            self._server, self._old = None, []

    def close(self) -> None:
        assert self._join_nonce > 0
