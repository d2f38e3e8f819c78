"""All bins of a city at once: power comes back, every bin has lost its session, and one concentrator serves them all.

The bins run the firmware's own MAC, the gateway its own network server; air and time are a model (`rejoin_air`).
"""

from __future__ import annotations

import base64
import heapq
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from brim.lorawan.airtime import airtime_us
from brim.lorawan.mac import Mac, MacError
from brim_gateway.network.adr import REQUIRED_SNR_DB
from brim_gateway.network.device import DeviceRow
from brim_gateway.network.downlink import POWER_DBM
from brim_gateway.network.reception import Downlink, Reception
from brim_gateway.network.server import NetworkServer
from brim_gateway.network.session import EcbCipher

from brim_tools.bench.rejoin_air import HOUR_US, Account, Air, Transmission

GATEWAY = "00000000000000aa"
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")
START_US = 1_790_000_000_000_000
# Power comes back for all within this; what spreads them further is theirs to do.
POWER_ON_US = 1_000_000
REPORT_BYTES = 12
REPORT_EVERY_US = HOUR_US
COPY_WINDOW_US = 200_000
FADING_DB = 1.5
# Bins are mounted so that their first rate has this in hand.
RESERVE_DB = 4.0
GIVE_UP_US = 14 * 24 * HOUR_US
SCENES = {"sf12": "every bin needs SF12", "mixed": "bins near and far: SF7 to SF12"}


@dataclass
class Bin:
    """One bin: a MAC that sleeps between two transmissions, and the flash that it persists to."""

    number: int
    dev_eui: bytes
    app_key: bytes
    snr_db: float
    first_dr: int
    source: random.Random
    flash: bytes | None = None
    kept: bytes | None = None
    slept_from_us: int = START_US
    windows: list[tuple[int, int, int]] = field(default_factory=list)
    repeats_left: int = 0
    joining: bool = False
    answered: bool = False
    joined_us: int = 0
    mac: Mac = field(init=False)

    def wake(self, now_us: int) -> None:
        """A new MAC from what memory kept; of the sleep only 90 % have certainly passed."""
        self.mac = Mac(
            self.dev_eui,
            JOIN_EUI,
            self.app_key,
            EcbCipher,
            self.source.randbytes,
            lambda: self.flash,
            self.kept,
            first_dr=self.first_dr,
        )
        self.kept = None
        self.mac.advance((now_us - self.slept_from_us) * 9 // 10_000)

    def sleep(self, now_us: int) -> None:
        """Memory keeps the state."""
        self.kept = self.mac.state()
        self.slept_from_us = now_us

    def carry_out(self, actions: list[Any]) -> Any:
        """Persist at once, note the windows; returns the transmission."""
        transmission, self.windows = None, []
        for action in actions:
            if action[0] == "persist":
                self.flash = action[1]
            elif action[0] == "transmit":
                transmission = action
            else:
                self.windows.append(action[1:])
        return transmission


class City:
    """The simulation: one heap of events, no clock but its own."""

    def __init__(self, bins: int, seed: int, scene: str, progress: bool = False) -> None:
        self.source = random.Random(f"{seed} {scene}")
        self.bins = [self._bin(number, scene) for number in range(bins)]
        self.server = NetworkServer(
            [
                DeviceRow(each.dev_eui.hex(), join_eui=JOIN_EUI.hex(), app_key=each.app_key)
                for each in self.bins
            ],
            random_bytes=self.source.randbytes,
        )  # fmt: skip
        self.air, self.account, self.counts = Air(), Account(), Counter[str]()
        self.now_us = START_US
        self.unproved = bins
        self._events: list[tuple[int, int, str, Any]] = []
        self._order = 0
        self._progress = progress
        self._numbers = {each.dev_eui.hex(): each for each in self.bins}
        self._accepts: list[int] = []

    def _bin(self, number: int, scene: str) -> Bin:
        if scene == "sf12":
            snr_db, first_dr = self.source.uniform(-15.5, -10.5), 0
        else:
            snr_db = self.source.uniform(REQUIRED_SNR_DB[0] + RESERVE_DB, 10.0)
            first_dr = max(dr for dr, floor_db in enumerate(REQUIRED_SNR_DB) if floor_db + RESERVE_DB <= snr_db)
        dev_eui = (0x70B3D57ED0000000 + number + 1).to_bytes(8, "big")
        own = random.Random(self.source.getrandbits(64))
        return Bin(number, dev_eui, own.randbytes(16), snr_db, first_dr, own)

    def _at(self, at_us: int, kind: str, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (at_us, self._order, kind, what))

    def run(self) -> None:
        """Until every bin has joined and been heard with its new session, and one hour more."""
        for each in self.bins:
            self._at(START_US + self.source.randrange(POWER_ON_US), "wake", each)
        until_us = START_US + GIVE_UP_US
        while self._events and self._events[0][0] < until_us:
            hour = (self.now_us - START_US) // HOUR_US
            self.now_us, _, kind, what = heapq.heappop(self._events)
            if self._progress and (self.now_us - START_US) // HOUR_US != hour:
                sys.stderr.write(f"\rhour {hour + 1}, {self.unproved} bins to come ")
            getattr(self, "_on_" + kind)(what)
            if not self.unproved and until_us > self.now_us + HOUR_US:
                until_us = self.now_us + HOUR_US
        if self._progress:
            sys.stderr.write("\r" + " " * 40 + "\r")

    # A bin.

    def _on_wake(self, each: Bin) -> None:
        each.wake(self.now_us)
        mac = each.mac
        if not mac.joined and mac.join_wait_ms():
            wait_us = mac.join_wait_ms() * 1000
            each.sleep(self.now_us)
            self._at(self.now_us + wait_us * 10 // 9 + 1_000_000, "wake", each)
            return
        each.joining = not mac.joined
        try:
            actions = mac.join() if each.joining else mac.send(1, each.source.randbytes(REPORT_BYTES))
        except MacError as error:
            self.counts["bin waits for " + str(error)] += 1
            each.sleep(self.now_us)
            self._at(self.now_us + 300_000_000, "wake", each)
            return
        each.repeats_left = 0 if each.joining else mac.nb_trans - 1
        self._transmit(each, actions)

    def _transmit(self, each: Bin, actions: list[Any]) -> None:
        _, freq_hz, sf, power_dbm, phy = each.carry_out(actions)
        end_us = self.now_us + airtime_us(len(phy), sf)
        snr_db = each.snr_db + power_dbm - POWER_DBM + self.source.gauss(0, FADING_DB)
        new = Transmission(each.number, freq_hz, sf, self.now_us, end_us, snr_db, phy)
        self.account.note(each.number, freq_hz, self.now_us, end_us)
        self.counts["join-requests" if each.joining else "reports"] += 1
        each.answered = False
        self.air.start(new)
        self._at(end_us, "end", new)
        self._at(end_us + 8_000_000, "windows_over", each)

    def _on_windows_over(self, each: Bin) -> None:
        each.mac.advance(8_000)
        if each.repeats_left and not each.answered:
            each.repeats_left -= 1
            try:
                self._transmit(each, each.mac.repeat())
                return
            except MacError:
                pass
        each.sleep(self.now_us)
        if each.mac.joined and each.joining:
            # Proof of the new session: soon, and not all at once.
            self._at(self.now_us + self.source.randrange(5_000_000, 65_000_000), "wake", each)
        elif each.mac.joined:
            self._at(self.now_us + self.source.randrange(REPORT_EVERY_US // 2, REPORT_EVERY_US * 3 // 2), "wake", each)
        else:
            self._at(self.now_us + each.mac.join_wait_ms() * 10_000 // 9 + 1_000_000, "wake", each)

    # The concentrator and the server.

    def _on_end(self, sent: Transmission) -> None:
        if not self.air.end(sent):
            self.counts["lost: " + sent.lost] += 1
            return
        self.server.on_pull(GATEWAY, self.now_us)
        tmst_us = self.now_us & 0xFFFFFFFF
        reception = Reception(sent.phy, sent.freq_hz, sent.sf, 125_000, -100.0, sent.snr_db, tmst_us, GATEWAY)
        result = self.server.on_uplink(reception, self.now_us)
        self.counts[result.kind if result.reason is None else f"{result.kind}: {result.reason}"] += 1
        if result.kind == "data":
            each = self.bins[sent.bin]
            if not each.joined_us:
                each.joined_us = self.now_us
                self.unproved -= 1
        if result.answer_due:
            self._at(self.now_us + COPY_WINDOW_US, "answer", (result.dev, self.now_us))

    def _on_answer(self, due: tuple[str, int]) -> None:
        dev, heard_us = due
        downlink = self.server.answer(dev, self.now_us)
        while downlink is not None:
            start_us = heard_us + ((downlink.txpk["tmst"] - heard_us) & 0xFFFFFFFF)
            if self.air.send(start_us, start_us + downlink.airtime_us):
                self.server.on_tx_ack(downlink, None, self.now_us)
                self._at(start_us, "downlink", downlink)
                return
            self.counts["refused by the forwarder"] += 1
            downlink = self.server.on_tx_ack(downlink, "COLLISION_PACKET", self.now_us)

    def _on_downlink(self, downlink: Downlink) -> None:
        each, txpk = self._numbers[downlink.dev], downlink.txpk
        freq_hz, sf = round(txpk["freq"] * 1e6), int(txpk["datr"][2:].partition("BW")[0])
        self.account.note(GATEWAY, freq_hz, self.now_us, self.now_us + downlink.airtime_us)
        self.counts["join-accepts" if each.joining else "other downlinks"] += 1
        self.counts[f"downlinks in RX{downlink.window}"] += 1
        if each.joining:
            self._accepts.append(self.now_us)
        listens = each.windows[downlink.window - 1][1:] == (freq_hz, sf)
        snr_db = each.snr_db + txpk["powe"] - POWER_DBM + self.source.gauss(0, FADING_DB)
        if not listens or snr_db < REQUIRED_SNR_DB[12 - sf]:
            self.counts["downlinks that a bin did not hear"] += 1
            return
        phy = base64.b64decode(txpk["data"])
        take = each.mac.on_accept(phy) if each.joining else each.mac.on_frame(phy, int(snr_db))
        if take is None:
            self.counts["downlinks that a bin refused"] += 1
            return
        each.answered = True
        each.carry_out(take)

    # What came of it.

    def report(self) -> dict[str, Any]:
        """Hours until 50, 90 and 100 % had joined (None: never), the fullest hours, and what happened on the way."""
        times = sorted(each.joined_us - START_US for each in self.bins if each.joined_us)

        def hours(percent: int) -> float | None:
            needed = -(-len(self.bins) * percent // 100)
            return round(times[needed - 1] / HOUR_US, 2) if len(times) >= needed else None

        bands = self.account.most_percent([GATEWAY])
        own = self.account.most_percent(range(len(self.bins)))
        hourly = [sum(at <= other < at + HOUR_US for other in self._accepts) for at in self._accepts[::50]]
        return {
            "bins": len(self.bins),
            "joined": len(times),
            "hours_to_50_90_100_percent": [hours(50), hours(90), hours(100)],
            "accepts_in_the_busiest_hour": max(hourly, default=0),
            "legal": all(percent <= 100 for percent in (*bands.values(), *own.values())),
            "fullest_hour_of_the_concentrator_percent_of_legal": bands,
            "fullest_hour_of_any_bin_percent_of_legal": own,
            "counts": dict(sorted(self.counts.items())),
        }


def measure(bins: int, seed: int, scene: str, progress: bool = False) -> dict[str, Any]:
    """One scene from power-on to one hour after the last bin."""
    started = time.process_time()
    city = City(bins, seed, scene, progress)
    city.run()
    return {"scene": scene, "what": SCENES[scene], "seed": seed} | city.report() | {
        "cpu_s": round(time.process_time() - started, 1)
    }  # fmt: skip


def readable(result: dict[str, Any]) -> str:
    """A few lines for people."""
    half, most, every = ("never" if hours is None else f"{hours} h" for hours in result["hours_to_50_90_100_percent"])
    lines = [
        f"{result['bins']} bins, {result['what']}, seed {result['seed']}: {result['joined']} joined",
        f"  50 % after {half}, 90 % after {most}, all after {every}",
        f"  join-accepts in the busiest hour: {result['accepts_in_the_busiest_hour']}",
        f"  duty cycle kept: {'yes' if result['legal'] else 'NO'}; fullest hour, percent of what is legal:",
        "    concentrator "
        + ", ".join(f"{n} {p}" for n, p in result["fullest_hour_of_the_concentrator_percent_of_legal"].items()),
        "    any bin      "
        + ", ".join(f"{n} {p}" for n, p in result["fullest_hour_of_any_bin_percent_of_legal"].items()),
    ]
    lines += [f"  {count:8} {name}" for name, count in result["counts"].items()]
    return "\n".join([*lines, f"  {result['cpu_s']} CPU s"])
