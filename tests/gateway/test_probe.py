"""`brim gateway outputs test`: what a broker really does with what it acknowledges, asked of a real mosquitto."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from brim_gateway.config import OutputConfig
from brim_gateway.pki import make_site
from brim_gateway.probe import Step, probe

from tests.gateway.support import Broker, free_port

ACL = """\
user writer
topic write brim/#
user reader
topic read brim/#
user both
topic readwrite brim/#
"""


class StrictBroker(Broker):
    """mosquitto with users and an access list that denies."""

    def __init__(self, folder: Path, more: str = "") -> None:
        super().__init__(folder)
        (folder / "acl").write_text(ACL)
        (folder / "acl").chmod(0o600)
        lines = ["allow_anonymous true", "persistence false", f"acl_file {folder / 'acl'}", "user root", more]
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *lines, ""]))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    strict = StrictBroker(tmp_path)
    strict.start()
    yield strict
    strict.stop()


def ask(port: int, user: str, protocol: str = "auto", **more: object) -> dict[str, Step]:
    config = OutputConfig("city", "127.0.0.1", port, False, user=user, protocol=protocol)
    steps = list(probe(config, "cab-1", within_s=float(str(more.get("within_s", 2)))))
    assert all("\n" not in step.text for step in steps)
    return {step.what: step for step in steps}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_lets_us_write_and_read_gives_back_what_it_took(broker: Broker, protocol: str) -> None:
    steps = ask(broker.port, "both", protocol)
    assert list(steps) == ["DNS", "TCP", "TLS", "CONNACK", "SUBACK", "PUBACK", "read back"]
    assert {step.verdict for what, step in steps.items() if what != "TLS"} == {"ok"}


def test_3_1_1_says_success_for_what_the_acl_refused_and_only_the_reading_back_shows_it(broker: Broker) -> None:
    steps = ask(broker.port, "reader", "3.1.1")
    assert steps["PUBACK"].verdict == "ok"
    assert steps["read back"].verdict == "mend"
    assert "acknowledged and did not deliver: look at its ACL" in steps["read back"].text


def test_a_broker_that_hangs_up_on_a_refused_topic_is_told_from_a_network_that_fails(tmp_path: Path) -> None:
    """What mosquitto 2.0.11 does on 3.1.1 once its queue is unlimited."""
    strict = StrictBroker(tmp_path, "max_queued_messages 0")
    strict.start()
    try:
        steps = ask(strict.port, "reader", "3.1.1")
    finally:
        strict.stop()
    assert steps["PUBACK"].verdict == "mend" and "hung up" in steps["PUBACK"].text and "ACL" in steps["PUBACK"].text


def test_mqtt_5_names_the_refusal_at_the_puback(broker: Broker) -> None:
    steps = ask(broker.port, "reader", "5")
    assert steps["PUBACK"].verdict == "mend" and "0x87" in steps["PUBACK"].text and "ACL" in steps["PUBACK"].text
    assert "read back" not in steps


def test_a_user_who_may_only_write_is_no_fault_on_mqtt_5(broker: Broker) -> None:
    steps = ask(broker.port, "writer", "5")
    assert steps["read back"].verdict == "note" and not any(one.verdict == "mend" for one in steps.values())


def test_a_port_where_nobody_listens_fails_at_tcp_and_a_name_nobody_knows_at_dns() -> None:
    assert list(ask(free_port(), "both"))[-1] == "TCP"
    unknown = OutputConfig("city", "nowhere.invalid", 8883, True)
    assert [step.what for step in probe(unknown, "s")] == ["DNS"]


def test_a_broker_that_accepts_and_says_nothing_is_named_at_connack() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        steps = ask(silent.getsockname()[1], "both", within_s=0.3)
    assert steps["CONNACK"].verdict == "mend" and "none within" in steps["CONNACK"].text


def test_a_broker_that_hangs_up_on_mqtt_5_is_asked_again_in_3_1_1() -> None:
    """A stand-in for the brokers that end the connection on a version they do not know."""
    with socket.socket() as old:
        old.bind(("127.0.0.1", 0))
        old.listen(8)
        old.settimeout(10)
        heard: list[int] = []

        def serve() -> None:
            for _ in range(3):
                connection, _address = old.accept()
                with connection:
                    data = connection.recv(1_024)
                    if data:
                        heard.append(data[8])

        thread = threading.Thread(target=serve)
        thread.start()
        steps = ask(old.getsockname()[1], "both")
        thread.join()
    assert heard == [5, 4] and steps["CONNACK"].verdict == "mend"


def test_tls_is_verified_and_a_wrong_authority_is_named(tmp_path: Path) -> None:
    site = make_site(tmp_path / "tls", "s", ["localhost", "127.0.0.1"])
    other = make_site(tmp_path / "other", "o", ["localhost"])
    strict = StrictBroker(tmp_path, f"cafile {site.ca}\ncertfile {site.cert}\nkeyfile {site.key}\n")
    strict.start()
    try:
        good = OutputConfig("city", "localhost", strict.port, True, user="both", ca=site.ca)
        assert [step.verdict for step in probe(good, "s", within_s=2)] == ["ok"] * 8
        for wrong in (other.ca, None):
            steps = list(probe(OutputConfig("city", "localhost", strict.port, True, user="both", ca=wrong), "s"))
            assert (steps[-1].what, steps[-1].verdict) == ("TLS", "mend") and "set ca to" in steps[-1].text
    finally:
        strict.stop()
