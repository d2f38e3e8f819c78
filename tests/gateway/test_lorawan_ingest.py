"""The LoRaWAN way through the daemon: a device's own MAC over a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from brim.lorawan import frames
from brim.lorawan.crypto import session_keys
from brim.wire.command import ACK, decode_commands
from brim.wire.ports import PORT_COMMAND, PORT_REPORT
from brim.wire.report import Reading, encode_report
from brim_gateway.errors import StoreFault
from brim_gateway.fleet.strangers import Strangers
from brim_gateway.ingest import lorawan as lorawan_ingest
from brim_gateway.ingest.semtech_codec import PushData, parse
from brim_gateway.network.session import EcbCipher
from brim_gateway.store.transaction import Committed, Transaction

from tests.gateway.support import UDP, RunningGateway, make_config, wait_until

RXPK = {
    "tmst": 1, "freq": 868.1, "stat": 1, "modu": "LORA", "datr": "SF7BW125", "codr": "4/5", "rssi": -80, "data": "AAAA",
}  # fmt: skip
EUI = bytes.fromhex("aa555a0000000101")


class Forwarder:
    """A packet forwarder on a real socket."""

    def __init__(self, port: int, eui: bytes = EUI) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._socket.settimeout(5)
        self._eui = eui
        self._token = 0

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _send(self, kind: int, body: bytes = b"") -> bytes:
        self._token += 1
        token = self._token.to_bytes(2, "big")
        self._socket.send(b"\x02" + token + bytes((kind,)) + self._eui + body)
        return token

    def discard(self) -> None:
        """Throw away what has come."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass
        self._socket.settimeout(5)

    def pull(self) -> None:
        token = self._send(2)
        assert self._socket.recv(64) == b"\x02" + token + b"\x04"

    def push(self, *phys: bytes, tmst: int = 1_000_000) -> None:
        """Send and wait for the PUSH_ACK."""
        token = self.push_only(*phys, tmst=tmst)
        assert self._socket.recv(64) == b"\x02" + token + b"\x01"

    def push_only(self, *phys: bytes, tmst: int = 1_000_000) -> bytes:
        rxpk = [
            {
                "tmst": tmst, "freq": 868.1, "chan": 0, "rfch": 0, "stat": 1, "modu": "LORA", "datr": "SF7BW125",
                "codr": "4/5", "rssi": -80, "lsnr": 7.5, "size": len(phy), "data": base64.b64encode(phy).decode(),
            }
            for phy in phys
        ]  # fmt: skip
        return self._send(0, json.dumps({"rxpk": rxpk}).encode())

    def receive(self) -> bytes:
        """The next datagram, whatever it is."""
        return self._socket.recv(4096)

    def downlink(self) -> tuple[bytes, dict[str, Any]]:
        """(token, txpk) of the next PULL_RESP."""
        datagram = self._socket.recv(4096)
        assert datagram[3] == 3
        return datagram[1:3], json.loads(datagram[4:])["txpk"]

    def tx_ack(self, token: bytes, error: str) -> None:
        body = json.dumps({"txpk_ack": {"error": error}}).encode()
        self._socket.send(b"\x02" + token + b"\x05" + self._eui + body)


class Device:
    """The least of a LoRaWAN device: frames under its keys."""

    def __init__(self, entry: dict[str, str]) -> None:
        self.dev = entry["dev"]
        self._join_eui = bytes.fromhex(entry["join_eui"])
        self._app = EcbCipher(bytes.fromhex(entry["app_key"]))
        self.f_cnt = 0

    def join(self, forwarder: Forwarder, nonce: int = 1) -> dict[str, Any]:
        forwarder.push(frames.build_join_request(self._app, self._join_eui, bytes.fromhex(self.dev), nonce))
        _, txpk = forwarder.downlink()
        accept = frames.parse_join_accept(self._app, base64.b64decode(txpk["data"]))
        nwk_s_key, app_s_key = session_keys(self._app, accept.join_nonce, accept.net_id, nonce)
        self._network, self._application = EcbCipher(nwk_s_key), EcbCipher(app_s_key)
        self._addr = accept.dev_addr
        return txpk

    def data(self, payload: bytes, f_port: int = PORT_REPORT) -> bytes:
        phy = frames.build_data(
            frames.DATA_UP, self._network, self._application, self._addr, 0, self.f_cnt, b"", f_port, payload
        )
        self.f_cnt += 1
        return phy

    def commands(self, txpk: dict[str, Any]) -> list[tuple[int, ...]]:
        phy = base64.b64decode(txpk["data"])
        frame = frames.parse_data(phy)
        assert frame.f_port == PORT_COMMAND
        return decode_commands(frames.open_data(self._network, self._application, phy, frame, frame.f_cnt))


def add_lorawan(gateway: RunningGateway, name: str) -> Device:
    return Device(gateway.ask("bins.add", rows=[[name, {"bin": name}]])["keys"][0])


def report(*seqs: int, backlog: int = 0) -> bytes:
    return encode_report([Reading(1, seq, "ok", 400, 2, 9, age_s=900 * i) for i, seq in enumerate(seqs)], backlog)


def test_join_report_and_the_acknowledgement_that_lets_the_bin_drop(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        txpk = device.join(forwarder)
        assert txpk["tmst"] == 1_000_000 + 5_000_000 and txpk["ipol"] is True
        forwarder.push(device.data(report(2, 1, backlog=1)), tmst=9_000_000)
        # PUSH_ACK came, so it is on disk.
        assert [(row["seq"], row["bin"], row["radio"]["sf"]) for row in gateway.rows()] == [
            (1, "L-1", 7),
            (2, "L-1", 7),
        ]
        _, txpk = forwarder.downlink()
        assert txpk["tmst"] == 9_000_000 + 1_000_000
        assert device.commands(txpk) == [(ACK, 1, 2, 0)]
        # Reading 3 is missing: asked for by saying what is held.
        forwarder.push(device.data(report(5, 4, backlog=2)), tmst=19_000_000)
        _, txpk = forwarder.downlink()
        assert device.commands(txpk) == [(ACK, 1, 2, 0b11)]
        forwarder.push(device.data(report(6, 5, 4, 3, backlog=3)), tmst=29_000_000)
        assert [row["seq"] for row in gateway.rows()] == [1, 2, 4, 5, 3, 6]
        status = gateway.ask("status")
        assert status["journal"]["repeated"] == 2 and status["lorawan"]["acks_queued"] == 2


def test_a_refused_first_window_is_sent_again_for_the_second(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        forwarder.push(frames.build_join_request(device._app, device._join_eui, bytes.fromhex(device.dev), 7))
        token, first = forwarder.downlink()
        forwarder.tx_ack(token, "TOO_LATE")
        _, second = forwarder.downlink()
        assert second["tmst"] == first["tmst"] + 1_000_000 and second["data"] == first["data"]
        assert gateway.ask("status")["lorawan"]["tx_refused"] == 1


def test_counters_and_nonces_survive_a_restart(tmp_path: Path) -> None:
    config = make_config(tmp_path, UDP)
    with RunningGateway(config) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        old = device.data(report(1))
        forwarder.push(old)
    with RunningGateway(config) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        forwarder.push(frames.build_join_request(device._app, device._join_eui, bytes.fromhex(device.dev), 1))
        forwarder.push(old)
        forwarder.push(device.data(report(2)))
        assert [row["seq"] for row in gateway.rows()] == [1, 2]
        status = gateway.ask("status")
        assert sum(status["refused"].values()) == 1 and status["lorawan"].get("join", 0) == 0


def test_on_a_full_disk_nothing_is_acknowledged_until_there_is_room_again(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        store = gateway.gateway.store
        pages = store.run_blocking(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        store.run_blocking(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        sent = 0
        # The free space of the last pages takes a few before it is full.
        while store.health.last_fault is None:
            sent += 1
            token = forwarder.push_only(device.data(report(sent)))

            def told(count: int = sent) -> bool:
                return store.health.last_fault is not None or len(gateway.rows()) == count

            wait_until(told, "stored or refused")
        assert len(gateway.rows()) == sent - 1 and not gateway.ask("status")["healthy"]
        forwarder.discard()
        forwarder.pull()
        # Room again: what waited is stored and acknowledged, and nobody had to send it twice.
        store.run_blocking(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        assert forwarder.receive()[1:4] == token + b"\x01"
        assert [row["seq"] for row in gateway.rows()] == list(range(1, sent + 1)) and gateway.ask("status")["healthy"]


def test_a_copy_of_what_was_not_stored_is_not_acknowledged(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as one:
        device = add_lorawan(gateway, "L-1")
        one.pull()
        device.join(one)
        lorawan, store = gateway.gateway.lorawan, gateway.gateway.store
        answers: list[asyncio.Future[Committed]] = []

        def submit(_: Transaction) -> asyncio.Future[Committed]:
            answers.append(asyncio.get_running_loop().create_future())
            return answers[-1]

        with Forwarder(gateway.port("udp"), bytes(7) + b"\1") as other, pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "submit", submit)
            phy = device.data(report(1))
            one.push_only(phy)
            wait_until(lambda: len(answers) == 1, "the frame is under way")
            other.push_only(phy)
            wait_until(lambda: len(answers) == 2, "its copy is under way")

            def verdicts() -> None:
                answers[0].set_exception(StoreFault("full"))
                answers[1].set_result(Committed())

            gateway.loop.call_soon_threadsafe(verdicts)
            wait_until(lambda: lorawan.counters["not_stored"] == 1, "refused")
            patch.undo()
            other.push(phy)
        assert [row["seq"] for row in gateway.rows()] == [1], "taken when it came again, and acknowledged once"


def test_what_comes_together_is_committed_together_and_a_bad_one_harms_no_other(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device, other = add_lorawan(gateway, "L-1"), add_lorawan(gateway, "L-2")
        forwarder.pull()
        device.join(forwarder)
        other.join(forwarder)
        store, real = gateway.gateway.store, gateway.gateway.store.submit
        sizes: list[int] = []

        def submit(transaction: Transaction) -> asyncio.Future[Committed]:
            sizes.append(len(transaction.readings))
            if any(reading.dev == other.dev for reading in transaction.readings):
                refused: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
                refused.set_exception(StoreFault("no such thing"))
                return refused
            return real(transaction)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "submit", submit)
            held = threading.Event()
            # While the loop stands still the datagrams gather at the socket.
            gateway.loop.call_soon_threadsafe(held.wait)
            tokens = [forwarder.push_only(one.data(report(1))) for one in (device, other)]
            tokens.append(forwarder.push_only(device.data(report(2))))
            held.set()
            assert {forwarder.receive()[1:4] for _ in range(2)} == {tokens[at] + b"\x01" for at in (0, 2)}
        assert sizes == [3, 1, 1, 1] and gateway.gateway.lorawan.counters["not_stored"] == 1
        assert [(row["bin"], row["seq"]) for row in gateway.rows()] == [("L-1", 1), ("L-1", 2)]


class HeldStore:
    """In place of ``store.submit``: nothing is committed until the test says so."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Committed]] = []
        self.readings = 0

    def submit(self, transaction: Transaction) -> asyncio.Future[Committed]:
        self.waiting.append(asyncio.get_running_loop().create_future())
        self.readings += len(transaction.readings)
        return self.waiting[-1]

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(Committed())


def test_a_slow_disk_delays_the_acknowledgement_and_nothing_else(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        held = HeldStore()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gateway.gateway.store, "submit", held.submit)
            tokens = [forwarder.push_only(device.data(report(seq))) for seq in (1, 2, 3)]
            wait_until(lambda: held.readings == 3, "three at the store")
            # PULL_DATA is answered meanwhile, and by nothing older: no PUSH_ACK is under way.
            forwarder.pull()
            gateway.loop.call_soon_threadsafe(held.commit)
            assert {forwarder.receive()[1:4] for _ in tokens} == {token + b"\x01" for token in tokens}


def test_what_waits_for_the_disk_is_bounded_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lorawan_ingest, "WAITING_MOST", 10)
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        held = HeldStore()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gateway.gateway.store, "submit", held.submit)
            for seq in range(1, 31):
                forwarder.push_only(device.data(report(seq)))
            refused = gateway.gateway.lorawan.refused
            wait_until(lambda: refused["store is behind"] == 20, "ten wait, twenty were not taken")
            assert held.readings == 10
            gateway.loop.call_soon_threadsafe(held.commit)
            for _ in range(10):
                assert forwarder.receive()[3] == 1
        forwarder.discard()
        forwarder.push(device.data(report(31)))
        said = [record.message for record in caplog.records if "the disk" in record.message]
        assert len(said) == 2 and "wait for the disk" in said[0] and "20 datagrams" in said[1]


def test_devices_that_nobody_registered_are_remembered_for_adoption(tmp_path: Path) -> None:
    strangers = Strangers(lambda: 1_790_000_000_000_000)
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        gateway.gateway.lorawan.strangers = strangers
        new = Device({"dev": "70b3d57ed0059999", "join_eui": "0" * 16, "app_key": "77" * 15 + "78"})
        for nonce in (1, 2):
            forwarder.push(frames.build_join_request(new._app, bytes(8), bytes.fromhex(new.dev), nonce))
        cipher = EcbCipher(bytes(15) + b"\1")
        forwarder.push(
            frames.build_data(frames.DATA_UP, cipher, cipher, bytes.fromhex("26011f88")[::-1], 0, 1, b"", 1, b"x")
        )
        heard = {one.get("dev") or one.get("dev_addr"): one for one in strangers.listing()}
        assert (
            heard["70b3d57ed0059999"] | {"count": 2, "link": "lorawan", "via": EUI.hex()} == heard["70b3d57ed0059999"]
        )
        assert heard["26011f88"]["why"] == "no such address here"


def test_a_time_at_the_end_of_the_calendar_disturbs_nobody() -> None:
    for text in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        entry = RXPK | {"time": text}
        push = parse(b"\x02\0\1\0" + EUI + json.dumps({"rxpk": [entry]}).encode())
        assert isinstance(push, PushData) and push.receptions[0].time_us is None


def test_every_kind_of_refusal_is_counted_and_nothing_else_happens(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        good = device.data(report(1))
        stranger = Device({"dev": "70b3d57ed0059999", "join_eui": "0" * 16, "app_key": "77" * 15 + "78"})
        wrong_key = Device({"dev": device.dev, "join_eui": "0" * 16, "app_key": "77" * 15 + "78"})
        forwarder.push(
            frames.build_join_request(stranger._app, bytes(8), bytes.fromhex(stranger.dev), 1),
            frames.build_join_request(wrong_key._app, bytes(8), bytes.fromhex(device.dev), 5),
            good[:-1] + bytes((good[-1] ^ 1,)),
            b"\xe0" * 20,
        )
        assert gateway.rows() == []
        assert sum(gateway.ask("status")["refused"].values()) == 4
        forwarder.push(device.data(b"nonsense"), device.data(b"{37}", f_port=99))
        assert gateway.ask("status")["lorawan"]["quarantined"] == 2
        forwarder.push(good)
        # Older than what was taken since: a replay.
        assert gateway.rows() == []


def test_a_concentrator_that_is_not_named_is_not_heard(tmp_path: Path) -> None:
    text = UDP + f'allow_gateways = ["{EUI.hex().upper()}"]\n'
    with RunningGateway(make_config(tmp_path, text)) as gateway:
        with Forwarder(gateway.port("udp"), bytes(7) + b"\x09") as other:
            other.push_only(b"\x00" * 23)
            wait_until(lambda: gateway.ask("status")["udp"].get("not_allowed"), "counted")
        with Forwarder(gateway.port("udp")) as named:
            named.pull()
