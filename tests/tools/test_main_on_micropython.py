"""main.py as it is shipped, on the real interpreter: what a boot does, seen from the serial line."""

import json
import subprocess
from pathlib import Path

import pytest
from brim.wire.console_line import decode_answer, encode_request

from tests.tools.bin_image import Image, build

HEAP = 200000
LORAWAN = {"dev_eui": bytes(range(8)), "join_eui": bytes(8), "app_key": bytes(range(16)), "link": b"lorawan"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build(tmp_path_factory.mktemp("image"))


def answers(out: str) -> list[tuple[str, bool, str, dict[str, object]]]:
    return [decode_answer(line) for line in out.splitlines() if line[:1] in "=!" and line]


def test_after_a_cold_boot_the_console_answers_and_then_the_bin_goes_on(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=True, typed="@1 who\r\n" + encode_request("2", "get", ["sense_s"]) + "\n")
    assert [answer[:2] for answer in answers(done.stdout)] == [("1", True), ("2", True)]
    assert answers(done.stdout)[0][3]["dev"] == "0001020304050607"
    assert done.stdout.index("=2 ok") < done.stdout.index("reading 1:1 ok 812") < done.stdout.index("done ")


def test_no_answer_shows_a_key(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=True, typed="".join(f"@{i} {v}\n" for i, v in enumerate(("who", "diagnose"))))
    assert len(answers(done.stdout)) == 9
    assert bytes(range(16)).hex() not in done.stdout + done.stderr


def test_a_wake_from_sleep_opens_no_console(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=False, typed="@1 who\n")
    assert answers(done.stdout) == []
    assert "reading 1:1 ok 812" in done.stdout


def test_the_interrupt_key_leads_to_the_repl_and_not_to_sleep(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=True, typed="\r\x03\x03")
    assert "KeyboardInterrupt" in done.stdout + done.stderr
    assert "reading" not in done.stdout and "done " not in done.stdout


def test_a_line_that_is_too_long_is_refused_and_the_next_is_answered(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=True, typed="@1 who " + "x" * 5000 + "\n@2 get sf\n")
    assert [answer[:3] for answer in answers(done.stdout)] == [("0", False, "line"), ("2", True, "ok")]


def test_reboot_restarts_the_bin(image: Image) -> None:
    done = image.run(HEAP, LORAWAN, cold=True, typed="@1 reboot\n@2 who\n")
    assert [answer[0] for answer in answers(done.stdout)] == ["1"]
    assert done.stdout.splitlines()[-1] == "reset"


def test_a_bin_without_identity_has_a_console_and_neither_readings_nor_radio(image: Image) -> None:
    for cold in (True, False):
        done = image.run(HEAP, {}, cold=cold, typed="@1 who\n@2 test-uplink\n@3 live\n")
        who, uplink, live = answers(done.stdout)
        assert who[3]["dev"] is None
        assert uplink[1:3] == (False, "unprovisioned")
        assert live[3]["distance_mm"] == 812
        assert "reading" not in done.stdout and "fault" not in done.stdout
        assert "done 3600000" in done.stdout


def test_when_nobody_types_the_bin_goes_on_by_itself(image: Image, tmp_path: Path) -> None:
    image.provision(LORAWAN)
    with subprocess.Popen(
        image.command(HEAP),
        cwd=image.path,
        env=image.environment(cold=True),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        lines = process.stdout.read()
    assert "reading 1:1 ok 812" in lines and "done " in lines
    assert json.loads((image.path / "nvs.json").read_text())
