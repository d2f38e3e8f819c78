"""An operator's command reaches its bin over either link, once, and waits for it as long as it must."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from brim.lorawan import frames

from tests.gateway.support import PLAIN_LISTENER, UDP, RunningGateway, WifiBin, make_config, reading, wait_until
from tests.gateway.test_lorawan_ingest import Device, Forwarder, add_lorawan


def opened(device: Device, txpk: dict[str, Any]) -> tuple[int | None, bytes]:
    """(port, payload) of a downlink."""
    phy = base64.b64decode(txpk["data"])
    frame = frames.parse_data(phy)
    return frame.f_port, frames.open_data(device._network, device._application, phy, frame, frame.f_cnt)


def wait_none_waits(gateway: RunningGateway) -> None:
    wait_until(lambda: gateway.ask("command.list") == [], "the command is struck out")


def test_a_lorawan_bin_gets_it_after_its_next_uplink_and_only_once(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, UDP)) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        gateway.ask("command.send", bin="L-1", port=17, payload="c0ffee")
        forwarder.push(device.data(b"x", 3), tmst=9_000_000)
        token, txpk = forwarder.downlink()
        assert opened(device, txpk) == (17, b"\xc0\xff\xee")
        forwarder.tx_ack(token, "NONE")
        wait_none_waits(gateway)
        forwarder.push(device.data(b"x", 3), tmst=19_000_000)
        gateway.ask("command.send", bin="L-1", port=18, payload="02")
        forwarder.push(device.data(b"x", 3), tmst=29_000_000)
        assert opened(device, forwarder.downlink()[1]) == (18, b"\x02"), "the first came once more"


def test_one_that_the_concentrator_refused_for_both_windows_waits_on(tmp_path: Path) -> None:
    config = make_config(tmp_path, UDP)
    with RunningGateway(config) as gateway, Forwarder(gateway.port("udp")) as forwarder:
        device = add_lorawan(gateway, "L-1")
        forwarder.pull()
        device.join(forwarder)
        kept = gateway.ask("command.send", bin="L-1", port=17, payload="c0ffee")
        forwarder.push(device.data(b"x", 3), tmst=9_000_000)
        for _ in range(2):
            token, txpk = forwarder.downlink()
            assert opened(device, txpk) == (17, b"\xc0\xff\xee")
            forwarder.tx_ack(token, "TOO_LATE")
        wait_until(lambda: gateway.ask("command.list") == [kept], "it waits as before")
    with RunningGateway(config) as gateway:
        assert gateway.ask("command.list") == [kept], "and across a restart"


def test_a_wifi_bin_gets_what_waited_when_it_subscribes_and_the_next_at_once(tmp_path: Path) -> None:
    with RunningGateway(make_config(tmp_path, PLAIN_LISTENER)) as gateway:
        dev, password = gateway.add_wifi("W-1")
        gateway.ask("command.send", bin="W-1", port=2, payload="01")
        gateway.ask("command.send", bin="W-1", port=2, payload="02")
        with WifiBin(gateway.port("mqtt"), dev, password) as bin_:
            bin_.publish_and_wait(reading(1))
            assert bin_.received == [], "it has not subscribed"
            bin_.client.subscribe(f"brim/bin/{dev}/down", 1)
            wait_until(lambda: len(bin_.received) == 2, "what waited")
            gateway.ask("command.send", bin="W-1", port=2, payload="03")
            wait_until(lambda: len(bin_.received) == 3, "what came while it is there")
        assert bin_.received == [b"\x01", b"\x02", b"\x03"]
        wait_none_waits(gateway)
