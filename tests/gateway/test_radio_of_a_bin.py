"""How a LoRaWAN bin is heard stands where an operator looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from brim_gateway.cli.common import print_view

from tests.gateway.support import UDP, RunningGateway, make_config, wait_until
from tests.gateway.test_commands_to_bins import opened
from tests.gateway.test_lorawan_ingest import Forwarder, add_lorawan, report


def test_bins_show_tells_how_each_concentrator_hears_the_bin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        assert gateway.ask("bins.show", bin="L-1")["radio"]["concentrators"] == []
        forwarder.pull()
        device.join(forwarder)
        forwarder.push(device.data(report(1)), tmst=9_000_000)
        view = gateway.ask("bins.show", bin="L-1")
        (heard,) = view["radio"]["concentrators"]
        assert (heard["rssi_dbm"], heard["snr_db"], heard["sf"]) == (-80, 7.5, 7)
        assert heard["at"].endswith("Z") and view["radio"]["margin_db"] == 15
        assert "dev" not in view["radio"] and view["keys"]["session"] is True
        gateway.add_wifi("W-1")
        assert "radio" not in gateway.ask("bins.show", bin="W-1")
    print_view(view, as_json=False)
    shown = capsys.readouterr().out
    assert "  margin_db" in shown and f"gateway={heard['gateway']} snr_db=7.5" in shown


def test_a_device_of_before_1_0_4_may_draw_its_join_counter(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        forwarder.pull()
        rising = add_lorawan(gateway, "L-1")
        rising.join(forwarder, 500)
        with pytest.raises(TimeoutError):
            rising.join(forwarder, 499)
        entry = gateway.ask("bins.add", rows=[["L-2", {"bin": "L-2", "dev_nonce": "random"}]])["keys"][0]
        drawn = type(rising)(entry)
        drawn.join(forwarder, 500)
        drawn.join(forwarder, 499)
        with pytest.raises(TimeoutError):
            drawn.join(forwarder, 500)


def test_a_join_accept_takes_no_command_with_it(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        gateway.ask("command.send", bin="L-1", port=17, payload="c0ffee")
        device.join(forwarder)
        assert len(gateway.ask("command.list")) == 1
        forwarder.push(device.data(b"x", 3), tmst=9_000_000)
        _, txpk = forwarder.downlink()
        assert opened(device, txpk) == (17, b"\xc0\xff\xee")
        wait_until(lambda: gateway.ask("command.list") == [], "sent")


def test_the_configured_rate_limit_is_the_one_that_holds(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP + "rate_limit = 7\n")) as gateway:
        assert gateway.gateway.udp is not None and gateway.gateway.udp.rate_limit == 7
