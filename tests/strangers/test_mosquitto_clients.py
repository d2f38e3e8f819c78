"""mosquitto_pub and mosquitto_sub as bins: the switches an operator tries first."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.gateway.support import reading, wait_until
from tests.strangers.world import World, world

BOTH = pytest.mark.parametrize("version", ["311", "5"])
EITHER_WAY = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def command(here: World, program: str, version: str, topic: str, *more: str) -> list[str]:
    words = [program, "-V", version, "-h", "localhost", "-p", str(here.port), "-u", here.dev, "-P", here.password]
    words += ["-i", here.dev, "-t", topic, *more]
    return [*words, "--cafile", str(here.ca)] if here.ca else words


def publish(here: World, version: str, payload: bytes, *more: str, topic: str | None = None) -> tuple[bool, str]:
    """(it says that it worked, what it complains of)."""
    words = command(here, "mosquitto_pub", version, topic or f"brim/bin/{here.dev}/up", "-s", *more)
    done = subprocess.run(words, input=payload, capture_output=True, timeout=20, check=False)
    return done.returncode == 0 and not done.stderr, done.stderr.decode()


@EITHER_WAY
@BOTH
def test_qos_1_is_on_disk_when_it_returns_and_qos_0_soon_after(tmp_path: Path, version: str, tls: bool) -> None:
    with world(tmp_path, tls=tls) as here:
        assert publish(here, version, reading(1), "-q", "1") == (True, "")
        assert here.seqs() == [1]
        assert publish(here, version, reading(2), "-q", "0") == (True, "")
        wait_until(lambda: here.seqs() == [1, 2], "taken, without a promise")


@EITHER_WAY
@BOTH
def test_qos_2_is_refused(tmp_path: Path, version: str, tls: bool) -> None:
    with world(tmp_path, tls=tls) as here:
        worked, complaint = publish(here, version, reading(1), "-q", "2")
        assert not worked and complaint
        assert here.seqs() == []


def test_it_returns_only_after_the_commit(tmp_path: Path) -> None:
    with world(tmp_path, tls=False) as here:
        here.stop_disk()
        words = command(here, "mosquitto_pub", "5", f"brim/bin/{here.dev}/up", "-q", "1", "-m", reading(1).decode())
        with subprocess.Popen(words) as process:
            here.wait_published(1)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            here.start_disk()
            assert process.wait(10) == 0
        assert here.seqs() == [1]


@BOTH
def test_a_will_is_read_over_and_harms_nothing(tmp_path: Path, version: str) -> None:
    with world(tmp_path, tls=False) as here:
        will = ["--will-topic", f"brim/bin/{here.other}/up", "--will-payload", reading(9).decode(), "--will-qos", "1"]
        assert publish(here, version, reading(1), "-q", "1", *will) == (True, "")
        assert publish(here, version, reading(2), "-q", "1", *will, "--will-retain") == (True, "")
        assert here.seqs() == [1, 2], "and never the will"


@BOTH
def test_a_retain_flag_disturbs_nobody(tmp_path: Path, version: str) -> None:
    """On 3.1.1 it is ignored; on 5 it is not offered, and mosquitto_pub then leaves it away by itself."""
    with world(tmp_path, tls=False) as here:
        assert publish(here, version, reading(1), "-q", "1", "-r") == (True, "")
        assert here.seqs() == [1]


@BOTH
def test_a_big_payload_is_put_aside_and_one_beyond_the_limit_refused(tmp_path: Path, version: str) -> None:
    with world(tmp_path, tls=False) as here:
        assert publish(here, version, b"x" * 16_000, "-q", "1") == (True, "")
        assert here.gateway.gateway.wifi.counters["quarantined"] == 1
        worked, complaint = publish(here, version, b"x" * 17_000, "-q", "1")
        # On 5 it knows the limit and sends nothing, without a word.
        assert version == "5" or (not worked and complaint)
        assert here.gateway.gateway.wifi.counters["publishes"] == 1
        assert publish(here, version, reading(1), "-q", "1") == (True, "")


@EITHER_WAY
@BOTH
def test_another_bins_topic_and_a_wrong_password_are_refused(tmp_path: Path, version: str, tls: bool) -> None:
    with world(tmp_path, tls=tls) as here:
        worked, complaint = publish(here, version, reading(1), "-q", "1", topic=f"brim/bin/{here.other}/up")
        assert not worked and complaint
        worked, complaint = publish(here, version, reading(1), "-q", "1", "-P", "wrong")
        assert not worked and ("not authori" in complaint.lower() or "bad user" in complaint.lower())
        assert here.seqs() == []


@EITHER_WAY
@BOTH
def test_mosquitto_sub_hears_its_own_commands_and_no_other_topic(tmp_path: Path, version: str, tls: bool) -> None:
    with world(tmp_path, tls=tls) as here:
        listener = here.gateway.gateway.listener
        assert listener is not None
        words = command(here, "mosquitto_sub", version, f"brim/bin/{here.dev}/down", "-q", "1", "-C", "1", "-F", "%x")
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            wait_until(lambda: here.dev in listener.sessions and listener.sessions[here.dev].listens, "subscribed")
            here.command(b"\x01order")
            out, _ = process.communicate(timeout=10)
        assert out == b"016f72646572\n"
        for topic in ("#", f"brim/bin/{here.other}/down"):
            words = command(here, "mosquitto_sub", version, topic, "-C", "1")
            done = subprocess.run(words, capture_output=True, timeout=10, check=False)
            assert b"denied" in done.stderr, (topic, done.stderr)


def test_who_verifies_by_name_refuses_an_address_that_is_not_in_the_certificate(tmp_path: Path) -> None:
    with world(tmp_path, tls=True) as here:
        worked, complaint = publish(here, "5", reading(1), "-q", "1", "-h", "127.0.0.1")
        assert not worked and complaint
        assert here.seqs() == []
