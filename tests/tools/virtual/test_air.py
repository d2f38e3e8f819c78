"""Ether and concentrator: what is heard is decided by model timestamps alone."""

import base64
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brim_tools.virtual.concentrator import Concentrator, PacketForwarder
from brim_tools.virtual.ether import Ether, Listener, Transmission, time_on_air_us
from brim_tools.virtual.world import World

DATA = Path(__file__).resolve().parents[2] / "data" / "lorawan"
EUI = "aa555a0000000101"


class Air:
    """A world with one concentrator, 120 dB from every bin, without fading."""

    def __init__(self, loss_db: Callable[[str, str], float] = lambda a, b: 120.0, **options: Any) -> None:
        self.world = World(paced=False)
        self.ether = Ether(self.world, rng=random.Random(1), loss_db=loss_db, fading_db=0.0, **options)
        self.concentrator = Concentrator(self.world, self.ether, EUI, tmst_start=(1 << 32) - 50_000)
        self.heard: list[dict[str, Any]] = []
        self.concentrator.on_rxpk = self.heard.append

    def uplink(self, start_us: int, sender: str = "bin", sf: int = 7, power_dbm: float = 14.0, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "sender": sender, "start_us": start_us,
            "end_us": start_us + time_on_air_us(12, sf, 125_000, crc=True, ldro=sf > 10),
            "freq_hz": 868_100_000, "sf": sf, "bw_hz": 125_000, "power_dbm": power_dbm, "iq_inverted": False,
            "crc": True, "sync_word": 0x3444, "payload": sender.encode().ljust(12, b"."),
        }  # fmt: skip
        frame = Transmission(**(fields | changes))
        self.world.at(start_us, lambda: self.ether.transmit(frame))

    def txpk(self, delay_us: int, **changes: Any) -> dict[str, Any]:
        fields = {
            "tmst": (self.concentrator.tmst(self.world.now_us) + delay_us) % (1 << 32),
            "freq": 868.1, "rfch": 0, "powe": 14,
            "modu": "LORA", "datr": "SF7BW125", "codr": "4/5", "ipol": True, "ncrc": True, "size": 4,
            "data": base64.b64encode(b"down").decode(),
        }  # fmt: skip
        return fields | changes


def test_airtime_agrees_with_the_recorded_vectors() -> None:
    cases = json.loads((DATA / "airtime.json").read_text())["lora"]
    assert len(cases) > 20
    for case in cases:
        bw_hz, sf = case["bw_hz"], case["sf"]
        if case["coding_rate"] != "4/5" or not case["explicit_header"]:
            continue
        got = time_on_air_us(
            case["phy_payload_bytes"], sf, bw_hz, crc=case["crc"], ldro=case["ldro"], preamble=case["preamble"]
        )
        assert abs(got - case["time_on_air_us"]) <= 1, case


def test_an_uplink_is_reported_with_the_counter_at_its_end_which_wraps() -> None:
    air = Air()
    air.uplink(10_000)
    air.world.run()
    end_us = 10_000 + time_on_air_us(12, 7, 125_000, crc=True, ldro=False)
    assert [h["tmst"] for h in air.heard] == [end_us - 50_000]
    assert (air.heard[0]["datr"], air.heard[0]["freq"], air.heard[0]["rssi"]) == ("SF7BW125", 868.1, -106)


def test_a_frame_below_the_demodulation_floor_is_not_heard_and_a_slower_one_is() -> None:
    air = Air(lambda a, b: 138.0)  # -124 dBm: 7 dB under the noise of a 125 kHz channel
    air.uplink(0, "fast", sf=7, power_dbm=13.0)
    air.uplink(5_000_000, "slow", sf=9, power_dbm=13.0)
    air.world.run()
    assert [h["datr"] for h in air.heard] == ["SF9BW125"] and air.ether.too_weak == 1


@pytest.mark.parametrize(("other_dbm", "survivors"), [(14.0, 0), (5.0, 1)])
def test_a_collision_kills_both_unless_one_is_six_decibels_stronger(other_dbm: float, survivors: int) -> None:
    air = Air()
    air.uplink(0, "one")
    air.uplink(20_000, "two", power_dbm=other_dbm)
    air.world.run()
    assert len(air.heard) == survivors


def test_other_spreading_factors_and_channels_do_not_collide() -> None:
    air = Air()
    air.uplink(0, "one")
    air.uplink(1_000, "two", sf=8)
    air.uplink(2_000, "three", freq_hz=868_300_000)
    air.world.run()
    assert len(air.heard) == 3


def test_a_private_sync_word_is_not_heard() -> None:
    air = Air()
    air.uplink(0, sync_word=0x1424)
    air.world.run()
    assert air.heard == []


def test_losses_follow_the_rate_given() -> None:
    air = Air(loss_rate=0.25)
    for i in range(400):
        air.uplink(i * 1_000_000)
    air.world.run()
    assert 270 <= len(air.heard) <= 330


@pytest.mark.parametrize(
    ("open_us", "lock_by_us", "hit"),
    [
        (900_000, 1_100_000, True),  # open before the preamble
        (1_003_000, 1_100_000, True),  # 3 of 8 preamble symbols gone: enough are left
        (1_006_000, 1_100_000, False),  # too few left
        (900_000, 990_000, False),  # closed before it began
    ],
)
def test_a_receive_window_hits_or_misses_by_its_times(open_us: int, lock_by_us: int, hit: bool) -> None:
    air, got = Air(), []
    air.concentrator.enqueue(air.txpk(1_000_000))

    def window() -> None:
        listener = Listener(
            "bin",
            868_100_000,
            7,
            125_000,
            True,
            0x3444,
            open_us,
            lock_by_us,
            lambda t, rssi, snr: got.append(t.payload),
        )
        air.ether.listen(listener)

    air.world.at(open_us, window)
    air.world.run()
    assert got == ([b"down"] if hit else [])


@pytest.mark.parametrize(
    ("delay_us", "changes", "error"),
    [
        (1_000_000, {}, "NONE"),
        (29_000, {}, "TOO_LATE"),
        (-1_000, {}, "TOO_LATE"),
        (140_000_000, {}, "TOO_EARLY"),
        (1_000_000, {"freq": 902.3}, "TX_FREQ"),
        (1_000_000, {"powe": 30}, "TX_POWER"),
        (1_000_000, {"modu": "FSK", "datr": 50000}, "NONE"),
    ],
)
def test_the_queue_of_the_forwarder_refuses_what_it_cannot_send(
    delay_us: int, changes: dict[str, Any], error: str
) -> None:
    air = Air()
    assert air.concentrator.enqueue(air.txpk(delay_us, **changes)) == error


def test_two_downlinks_at_once_collide_in_the_queue() -> None:
    air = Air()
    assert air.concentrator.enqueue(air.txpk(1_000_000)) == "NONE"
    assert air.concentrator.enqueue(air.txpk(1_020_000)) == "COLLISION_PACKET"


def test_a_concentrator_that_sends_is_deaf() -> None:
    air = Air()
    air.concentrator.enqueue(air.txpk(100_000))
    air.uplink(90_000)
    air.world.run()
    assert air.heard == []


def test_the_forwarder_takes_the_recorded_pull_resp_and_says_so() -> None:
    """Semtech's own example datagram, sent by a server that is only a socket here."""
    vectors = {v["id"]: v for v in json.loads((DATA / "udp_protocol.json").read_text())["valid"]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        world = World(paced=True)
        ether = Ether(world, rng=random.Random(1), loss_db=lambda a, b: 120.0)
        forwarder = PacketForwarder(world, Concentrator(world, ether, EUI), server.getsockname())
        pull, address = server.recvfrom(100)
        assert (pull[0], pull[3], pull[4:].hex()) == (2, 2, EUI)
        server.sendto(bytes([2]) + pull[1:3] + b"\x04", address)
        server.sendto(bytes.fromhex(vectors["pull-resp-lora"]["hex"]), address)
        server.sendto(b"\x02\x00\x01\x03{not json", address)
        world.run(world.now_us + 100_000)
        answer = server.recv(200)
        assert answer[:4].hex() == "0200ab05" and json.loads(answer[12:]) == {"txpk_ack": {"error": "NONE"}}
        assert forwarder.pulled == 1
        forwarder.close()
        world.close()
