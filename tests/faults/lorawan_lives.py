"""Lives of bins with LoRaWAN, seeded, and a power supply that fails at any action: no number is used twice.

    python -m tests.faults.lorawan_lives --lives 5000 [--seed 1]

A life: joins, uplinks with repeats, commands down, sleeps, cuts that leave flash alone (RTC memory is lost), and the
loss of both. Flash also holds the identity: a bin that has lost it gets a new key from a technician, who needs an hour.
The other end is no server of ours: it is here, a few lines, and accepts whatever is well-formed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter, deque
from typing import Any

from brim.lorawan import frames
from brim.lorawan.airtime import airtime_us
from brim.lorawan.crypto import session_keys
from brim.lorawan.mac import Mac, MacError
from brim_gateway.network.session import EcbCipher

DEV_EUI = bytes.fromhex("70b3d57ed0000001")
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")
HOUR_US = 3_600_000_000
# The law (ETSI EN 300 220-2), written down here again: name, from, below in kHz, most airtime in an hour in us. A judge
# that took the firmware's own table would never find a mistake in it.
LAW = (
    ("K", 863_000, 865_000, 3_600_000),
    ("L", 865_000, 868_000, 36_000_000),
    ("M", 868_000, 868_600, 36_000_000),
    ("N", 868_700, 869_200, 3_600_000),
    ("P", 869_400, 869_650, 360_000_000),
    ("R", 869_700, 870_000, 36_000_000),
)
STEPS = 60
# LinkADRReq (DR3, power 2, NbTrans 2; DR0, NbTrans 3), RXParamSetupReq, RXTimingSetupReq, NewChannelReq, DlChannelReq,
# DutyCycleReq off, DevStatusReq; a channel in the sub-band of 10 %, and that one alone.
COMMANDS = (
    "0332070002",
    "0300070003",
    "0513d2ad84",
    "0803",
    "0703184f8450",
    "0a00809184",
    "0400",
    "06",
    "0705d2ad84500300200003",
)


class PowerCut(Exception):
    """The supply is gone."""


class Broken(AssertionError):
    """A promise of the MAC was broken."""


class Air:
    """Everything that was ever sent and accepted, and the law."""

    def __init__(self) -> None:
        self.now_us = 0
        self.nonces: set[tuple[bytes, int]] = set()
        self.frames: dict[tuple[bytes, int], bytes] = {}
        self.taken: set[tuple[bytes, int]] = set()
        self.spent: list[deque[tuple[int, int]]] = [deque() for _ in LAW]
        self.sums = [0] * len(LAW)
        self.seen: Counter[str] = Counter()

    def transmit(self, freq_hz: int, sf: int, phy: bytes, key: bytes) -> None:
        """Note one transmission; raises Broken where it should not have been."""
        band = next((index for index, one in enumerate(LAW) if one[1] * 1_000 <= freq_hz < one[2] * 1_000), None)
        if band is None:
            raise Broken(f"{freq_hz} Hz belongs to nobody")
        us = airtime_us(len(phy), sf)
        spent = self.spent[band]
        spent.append((self.now_us, us))
        self.sums[band] += us
        while spent[0][0] <= self.now_us - HOUR_US:
            self.sums[band] -= spent.popleft()[1]
        if self.sums[band] > LAW[band][3]:
            raise Broken(f"duty cycle of {LAW[band][0]}: {self.sums[band]} us in an hour")
        if phy[0] == 0:
            nonce = (key, frames.parse_join_request(phy)[2])
            if nonce in self.nonces:
                raise Broken(f"DevNonce {nonce[1]} twice")
            self.nonces.add(nonce)
            self.seen["joins"] += 1
            return
        counter = (key, frames.parse_data(phy).f_cnt)
        if self.frames.setdefault(counter, phy) != phy:
            raise Broken(f"FCntUp {counter[1]} twice with different content")
        self.seen["uplinks"] += 1


class Life:
    """One bin from its first boot on. What is in the attributes survives; `mac` does not survive a cut."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.air = Air()
        self.app_key = self.random.randbytes(16)
        self.flash: bytes | None = None
        self.kept: bytes | None = None
        self.join_nonce = 0
        self.f_cnt_down = 0
        self.keys = (bytes(16), bytes(16))
        self.old_downlinks: list[bytes] = []
        self.cut_in = self.random.randrange(1, 60)
        self.boot()

    def boot(self) -> None:
        kept, self.kept = self.kept, None
        self.mac = Mac(DEV_EUI, JOIN_EUI, self.app_key, EcbCipher, self.random.randbytes, lambda: self.flash, kept)
        if self.random.random() < 0.7:
            self.mac.hurry()

    def step(self) -> None:
        self.cut_in -= 1
        if self.cut_in <= 0:
            self.cut_in = self.random.choice((1, 2, 3, 8, 40, 200))
            raise PowerCut

    def wait(self, ms: int, awake: bool = True) -> None:
        """Time for all. Of a sleep the bin believes 90 %; its clock is off by up to 9 % either way."""
        self.air.now_us += ms * 1000
        if awake:
            self.mac.advance(ms)

    def carry_out(self, actions: list[Any]) -> tuple[list[Any], int]:
        """The windows, and where the other end may answer."""
        windows = []
        for action in actions:
            self.step()
            if action[0] == "persist":
                self.flash = action[1]
            elif action[0] == "transmit":
                _, freq_hz, sf, power_dbm, phy = action
                if not 0 <= power_dbm <= 14 or not 7 <= sf <= 12:
                    raise Broken(f"{power_dbm} dBm, SF{sf}")
                key = self.app_key if phy[0] == 0 else self.mac._keys[0]
                self.air.transmit(freq_hz, sf, phy, key)
                self.wait(airtime_us(len(phy), sf) // 1000 + 1)
            else:
                windows.append(action)
            self.step()
        self.wait(windows[-1][1] + 1000 if windows else 0)
        return windows, len(windows)

    def join(self) -> None:
        actions = self.mac.join()
        nonce = frames.parse_join_request(next(action[4] for action in actions if action[0] == "transmit"))[2]
        self.carry_out(actions)
        if self.random.random() < 0.5:
            return
        self.join_nonce += 1
        app = EcbCipher(self.app_key)
        addr = self.random.randbytes(4)
        channels = [867_100_000, 867_300_000] if self.random.random() < 0.5 else []
        accept = frames.Accept(self.join_nonce, 0x13, addr, self.random.choice((0, 3, 0x13)), 1, channels)
        keys = session_keys(app, self.join_nonce, 0x13, nonce)
        more = self.mac.on_accept(frames.build_join_accept(app, accept))
        if more is None:
            raise Broken("a good accept was refused")
        self.keys, self.addr, self.f_cnt_down = keys, addr, 0
        self.carry_out(more)

    def uplink(self) -> None:
        actions = self.mac.send(1, self.random.randbytes(self.random.randrange(1, 28)), self.random.random() < 0.2)
        for left in range(self.mac.nb_trans - 1, -1, -1):
            self.carry_out(actions)
            if self.random.random() < 0.3:
                self.downlink()
                return
            if left:
                actions = self.mac.repeat()

    def downlink(self) -> None:
        """A new one, or an old one again: recorded by somebody and played back."""
        if self.mac._keys != self.keys:
            return
        if self.old_downlinks and self.random.random() < 0.3:
            phy = self.random.choice(self.old_downlinks)
        else:
            data = b"".join(bytes.fromhex(self.random.choice(COMMANDS)) for _ in range(self.random.randrange(3)))[:15]
            net, app = EcbCipher(self.keys[0]), EcbCipher(self.keys[1])
            m_type = self.random.choice((frames.DATA_DOWN, frames.CONFIRMED_DOWN))
            phy = frames.build_data(m_type, net, app, self.addr, 0, self.f_cnt_down, data, 2, b"command")
            self.f_cnt_down += self.random.choice((1, 1, 1, 5))
            self.old_downlinks = [*self.old_downlinks[-20:], phy]
        more = self.mac.on_frame(phy, 5)
        if more is None:
            return
        self.carry_out(more)
        # Only now does the link hand the command on.
        taken = (self.keys[0], frames.parse_data(phy).f_cnt)
        if taken in self.air.taken:
            raise Broken(f"FCntDown {taken[1]} taken twice")
        self.air.taken.add(taken)
        self.air.seen["downlinks"] += 1

    def sleep(self) -> None:
        seconds = self.random.choice((1, 20, 60, 300, 900, 3600, 43_200))
        self.kept = self.mac.state()
        if len(self.kept) > 300:
            raise Broken(f"a state of {len(self.kept)} bytes")
        # The sleep clock says `seconds`; what passed is up to 9 % more or less, and 90 % of it is believed.
        self.air.now_us += seconds * self.random.randrange(910_000, 1_090_001)
        self.boot()
        self.mac.advance(seconds * 900)

    def act(self) -> None:
        try:
            if not self.mac.joined or self.mac.lost() or self.random.random() < 0.02:
                self.join()
            if self.mac.joined:
                self.uplink()
        except MacError as error:
            self.air.seen[str(error)] += 1
        if self.random.random() < 0.8:
            self.sleep()
        else:
            self.wait(self.random.choice((100, 5_000, 60_000)))

    def cut(self) -> None:
        self.air.seen["cuts"] += 1
        self.kept = None
        self.air.now_us += self.random.choice((0, 1_000_000, HOUR_US))
        if self.random.random() < 0.03:
            self.air.seen["both lost"] += 1
            self.flash, self.app_key = None, self.random.randbytes(16)
            self.join_nonce = 0
            self.air.now_us += HOUR_US
        self.boot()

    def live(self) -> Counter[str]:
        for _ in range(STEPS):
            try:
                self.act()
            except PowerCut:
                self.cut()
        return self.air.seen


def run(lives: int, seed: int = 1) -> Counter[str]:
    """Raises Broken with the seed of the life that broke a promise."""
    seen: Counter[str] = Counter()
    for number in range(lives):
        life_seed = seed * 1_000_003 + number
        try:
            seen += Life(life_seed).live()
        except Broken as broken:
            raise Broken(f"life {life_seed}: {broken}") from None
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description="Lives of bins with power cuts; nothing is used twice.")
    parser.add_argument("--lives", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    seen = run(options.lives, options.seed)
    print(
        f"{options.lives} lives, seed {options.seed}: " + ", ".join(f"{n} {what}" for what, n in sorted(seen.items()))
    )
    print("no DevNonce, no FCntUp and no FCntDown twice under one key; duty cycle kept in every hour")
    return 0


if __name__ == "__main__":
    sys.exit(main())
