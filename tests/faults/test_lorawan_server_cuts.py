"""Power cuts of the gateway at every boundary of the network server's work: no number is used twice, ever.

The disk is what was committed; a cut throws everything else away. `python -m tests.faults.test_lorawan_server_cuts
--histories 5000 --seed 1` runs as many seeded histories as wanted.
"""

from __future__ import annotations

import argparse
import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from brim.lorawan import frames
from brim.lorawan.mac import MacError
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.reception import Downlink, Reception, UplinkResult
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher
from brim_tools.bench.rejoin_air import Account
from msgspec.structs import replace

from tests.gateway.network.ends import START_US, Bin, row

GATEWAYS = ("00000000000000aa", "00000000000000bb")
KEYS = [bytes.fromhex(f"{number}f1e2d3c4b5a69788796a5b4c3d2e1f0") for number in (6, 7, 8)]
DEVS = [f"70b3d57ed000000{number}" for number in (1, 2, 3)]


class Cut(Exception):
    """The gateway's power is gone."""


@dataclass
class World:
    """A gateway with a disk, two concentrators, three bins that lose things and ask for much."""

    seed: int
    cut_at: frozenset[int] = frozenset()
    refuses: float = 0.0
    boundaries: int = 0
    cuts: int = 0
    now_us: int = START_US
    disk: dict[str, DeviceRow] = field(default_factory=dict)
    stored: list[tuple[int | None, int | None, str | None]] = field(default_factory=list)
    on_air: list[tuple[bytes, int]] = field(default_factory=list)
    accepts: dict[tuple[str, int], set[bytes]] = field(default_factory=dict)
    account: Account = field(default_factory=Account)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)
        self.bins = [Bin(dev, key, self.seed + at) for at, (dev, key) in enumerate(zip(DEVS, KEYS, strict=True))]
        for dev, key in zip(DEVS, KEYS, strict=True):
            self.disk[dev] = replace(row(dev, key), dev_nonce="random" if dev == DEVS[2] else "rising")
        self.start()

    def start(self) -> None:
        """The daemon starts from the disk alone, through the JSON that the disk holds."""
        rows = [DeviceRow.from_dict(each.as_dict()) for each in self.disk.values()]
        self.server = NetworkServer(rows, random_bytes=self.source.randbytes)

    def boundary(self) -> None:
        self.boundaries += 1
        if self.boundaries in self.cut_at:
            raise Cut

    def commit(self, rows: tuple[DeviceRow, ...], reading: UplinkResult | None = None) -> bool:
        """Rows and reading in one transaction. False where the disk refuses, as a full one does."""
        self.boundary()
        if self.source.random() < self.refuses:
            return False
        self.disk |= {each.dev: each for each in rows}
        if reading is not None and reading.kind == "data":
            self.stored.append((reading.session, reading.f_cnt, reading.dev))
        self.boundary()
        return True

    def hear(self, phy: bytes, freq_hz: int, sf: int) -> Downlink | None:
        """One transmission as the daemon handles it; returns what the concentrators really sent."""
        end_us = self.now_us
        results: list[UplinkResult] = []
        for gateway in GATEWAYS:
            self.server.on_pull(gateway, end_us)
            snr_db = self.source.uniform(-5, 9)
            reception = Reception(phy, freq_hz, sf, 125_000, -90.0, snr_db, end_us & 0xFFFFFFFF, gateway)
            results.append(self.server.on_uplink(reception, end_us))
        first = results[0]
        if first.kind in ("data", "join") and not self.commit(first.updates, first):
            self.server.restore_device(self.disk[first.dev or ""])
            return None
        if not first.answer_due or first.dev is None:
            return None
        if self.source.random() < 0.3:
            self.server.queue(first.dev, 2, self.source.randbytes(9), end_us, end_us + 10**9)
        downlink = self.server.answer(first.dev, end_us + 200_000)
        while downlink is not None:
            if not self.commit(downlink.updates):
                return None
            if self.source.random() < 0.7:
                self.sent(downlink, end_us)
                self.boundary()
                self.server.on_tx_ack(downlink, None, end_us + 300_000)
                return downlink
            self.boundary()
            downlink = self.server.on_tx_ack(downlink, "COLLISION_PACKET", end_us + 300_000)
        return None

    def sent(self, downlink: Downlink, end_us: int) -> None:
        """It is on the air: from now on its numbers are used."""
        phy = base64.b64decode(downlink.txpk["data"])
        start_us = end_us + ((downlink.txpk["tmst"] - end_us) & 0xFFFFFFFF)
        freq_hz = round(downlink.txpk["freq"] * 1e6)
        self.account.note(downlink.gateway, freq_hz, start_us, start_us + downlink.airtime_us)
        stored = self.disk[downlink.dev]
        if phy[0] >> 5 == frames.JOIN_ACCEPT:
            assert stored.app_key is not None
            accept = frames.parse_join_accept(EcbCipher(stored.app_key), phy)
            assert accept.join_nonce <= stored.join_nonce, "an accept on the air that the disk does not know of"
            self.accepts.setdefault((downlink.dev, accept.join_nonce), set()).add(phy)
            return
        assert stored.session is not None
        frame = frames.parse_data(phy)
        assert frame.f_cnt < stored.session.f_cnt_down, "a counter on the air that the disk does not know of"
        self.on_air.append((stored.session.nwk_s_key, frame.f_cnt))

    def exchange(self, one: Bin, actions: list[Any], take: Any) -> None:
        transmission, windows = one.carry_out(actions)
        self.now_us += 1_500_000
        end_us = self.now_us
        downlink = None
        if self.source.random() < 0.85:
            try:
                downlink = self.hear(transmission[4], transmission[1], transmission[2])
            except Cut:
                self.cuts += 1
                self.start()
        self.now_us += 7_000_000
        one.mac.advance(8_500)
        if downlink is None or self.source.random() < 0.2:
            return
        for _, delay_ms, freq_hz, sf in windows:
            txpk = downlink.txpk
            if (
                txpk["tmst"] == (end_us + delay_ms * 1000) & 0xFFFFFFFF
                and round(txpk["freq"] * 1e6) == freq_hz
                and txpk["datr"] == f"SF{sf}BW125"
            ):
                one.carry_out(take(base64.b64decode(txpk["data"])) or [])
                return

    def act(self, one: Bin) -> None:
        """A bin's wake: a join where it has no session or has lost faith in it, else a report, sometimes repeated."""
        mac = one.mac
        try:
            if not mac.joined or self.source.random() < 0.05:
                self.exchange(one, mac.join(), mac.on_accept)
                return
            self.exchange(one, mac.send(1, b"r", self.source.random() < 0.4), lambda phy: mac.on_frame(phy, 5))
            if not mac.acknowledged and self.source.random() < 0.5:
                self.exchange(one, mac.repeat(), lambda phy: mac.on_frame(phy, 5))
        except MacError:
            pass

    def run(self, rounds: int) -> None:
        """Rounds of all bins; what was heard and sent is judged at the end."""
        for _ in range(rounds):
            for one in self.bins:
                self.act(one)
                one.sleep(400)
            self.now_us += 400_000_000
        self.judge()

    def judge(self) -> None:
        assert len(self.stored) == len(set(self.stored)), "one FCntUp stored twice"
        assert len(self.on_air) == len(set(self.on_air)), "one (key, FCntDown) on the air twice"
        twice = [each for each, phys in self.accepts.items() if len(phys) > 1]
        assert not twice, "one JoinNonce in two different accepts"
        assert all(percent <= 100 for percent in self.account.most_percent(GATEWAYS).values())


def boundaries_of(seed: int, rounds: int) -> int:
    world = World(seed)
    world.run(rounds)
    assert len(world.stored) > rounds and len(world.on_air) > rounds // 2 and len(world.accepts) >= 3
    return world.boundaries


ROUNDS = 12
BOUNDARIES = boundaries_of(1, ROUNDS)


@pytest.mark.parametrize("cut", range(1, BOUNDARIES + 1))
def test_a_cut_at_this_boundary_uses_no_number_twice(cut: int) -> None:
    world = World(1, frozenset((cut,)))
    world.run(ROUNDS)
    assert world.cuts == 1


def many_cuts(seed: int) -> World:
    """A history with several cuts and a disk that refuses now and then."""
    source = random.Random(seed)
    cuts = frozenset(source.sample(range(1, 200), source.randrange(1, 12)))
    world = World(seed, cuts, refuses=source.choice((0.0, 0.05, 0.2)))
    world.run(25)
    return world


@pytest.mark.parametrize("seed", range(1, 41))
def test_histories_with_many_cuts_and_a_disk_that_refuses_use_no_number_twice(seed: int) -> None:
    assert many_cuts(seed).cuts


def test_a_server_that_forgets_its_commit_is_caught() -> None:
    """The judge judges: with a disk that loses every second commit of a downlink, numbers do come twice."""

    class Forgetful(World):
        def commit(self, rows: tuple[DeviceRow, ...], reading: UplinkResult | None = None) -> bool:
            kept = dict(self.disk)
            super().commit(rows, reading)
            if self.source.random() < 0.5:
                self.disk = kept
            return True

    def worlds() -> Iterator[bool]:
        for seed in range(20):
            world = Forgetful(seed, frozenset(range(3, 400, 7)))
            try:
                world.run(20)
            except AssertionError:
                yield True

    assert any(worlds())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    cuts = ups = downs = joins = 0
    for seed in range(given.seed, given.seed + given.histories):
        world = many_cuts(seed)
        cuts += world.cuts
        ups, downs, joins = ups + len(world.stored), downs + len(world.on_air), joins + len(world.accepts)
    print(f"{given.histories} histories from seed {given.seed}: {cuts} cuts, {ups} uplinks stored,")
    print(f"{downs} downlinks and {joins} JoinNonces on the air; no number twice, duty cycle kept")


if __name__ == "__main__":
    main()
