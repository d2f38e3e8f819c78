"""Power cuts at every action of the device, in seeded lives; many more: `python -m tests.faults.lorawan_lives`."""

from __future__ import annotations

import pytest
from brim.lorawan.mac import Mac

from tests.faults.lorawan_lives import Broken, run


def test_no_number_is_used_twice_and_no_hour_is_too_loud_whatever_is_cut() -> None:
    seen = run(400)
    assert seen["cuts"] > 2000 and seen["both lost"] > 20 and seen["joins"] > 800
    assert seen["uplinks"] > 10_000 and seen["downlinks"] > 2000 and seen["duty"] > 100


def test_a_mac_that_transmits_before_it_writes_down_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Mac._transmit

    def hasty(self: Mac, channels: list[int], join: bool | None) -> list[tuple[object, ...]]:
        actions = honest(self, channels, join)
        return [*actions[1:], actions[0]] if actions[0][0] == "persist" else actions

    monkeypatch.setattr(Mac, "_transmit", hasty)
    with pytest.raises(Broken, match="twice"):
        run(200)


def test_a_mac_that_reserves_no_airtime_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Mac, band: int, airtime_ms: int) -> bool:
        self._ledger.spend(band, airtime_ms)
        return False

    monkeypatch.setattr(Mac, "_spend", forgetful)
    with pytest.raises(Broken, match="duty cycle"):
        run(400)


def test_a_mac_that_keeps_no_downlink_counter_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Mac.on_frame

    def careless(self: Mac, phy: bytes, snr_db: int) -> list[tuple[object, ...]] | None:
        return None if honest(self, phy, snr_db) is None else []

    monkeypatch.setattr(Mac, "on_frame", careless)
    with pytest.raises(Broken, match="FCntDown"):
        run(400)
