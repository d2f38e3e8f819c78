"""The uplink benchmark in small: what it sends arrives, and what is missing it says. Never a verdict on speed."""

from __future__ import annotations

from typing import Any

from brim_gateway.network.explain import Keys, explain
from brim_tools.bench import uplinks
from brim_tools.bench.forwarders import Signer, bins_of


def test_every_uplink_is_acknowledged_and_on_disk_and_confirmed_ones_are_answered() -> None:
    result = uplinks.measure(uplinks=600, bins=200, per_datagram=3, seconds=1.0, seed=7, linger_ms=5)
    assert result["sent"] == 200 + 600 + uplinks.PACED_RATE == result["acknowledged"] == result["in_journal"]
    assert result["dropped"] == 0
    assert result["paced"]["asked"] == result["paced"]["answered"] == uplinks.PACED_RATE // uplinks.CONFIRMED_EACH
    assert result["closed"]["cpu_us_per_uplink"] > 0 and result["paced"]["answer_ms"]["p99"] > 0
    assert "dropped 0" in uplinks.lines(result)[-1]


def test_its_uplinks_are_signed_each_under_the_keys_of_its_own_bin() -> None:
    sessions = bins_of(3, seed=1)
    assert len({one.nwk_s_key for one in sessions}) == 3
    signer = Signer(sessions)
    for turn in range(9):
        one = sessions[turn % 3]
        found: dict[str, Any] = explain(
            signer.frame(confirmed=turn == 4), Keys(None, one.nwk_s_key, one.app_s_key, max(0, turn // 3 - 1))
        )
        assert (found["mic_ok"], found["f_cnt"], found["dev_addr"]) == (True, turn // 3, one.dev_addr)
        assert found["m_type"] == ("ConfirmedDataUp" if turn == 4 else "UnconfirmedDataUp")
