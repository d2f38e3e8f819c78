"""`brim gateway decode`: what a person reads, what a script reads, and how it says no."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from brim_gateway.cli import app
from typer.testing import CliRunner, Result

PHY = "40f17dbe4900020001954378762b11ff0d"
KEYS = {"nwk_s_key": "44024241ed4ce9a68c6a8bc055233fd3", "app_s_key": "ec925802ae430ca77fd3dd73cb2cc588"}
GENERATED = json.loads((Path(__file__).parents[1] / "data/lorawan/frames_generated.json").read_text(encoding="utf-8"))[
    "frames"
]


def decode(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["decode", *map(str, args)])


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(KEYS))
    return path


def test_a_frame_as_json(keys: Path) -> None:
    done = decode(PHY, "--keys", keys, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (found["m_type"], found["frm_payload"], found["mic_ok"]) == ("UnconfirmedDataUp", "74657374", True)


def test_a_frame_as_a_table_with_its_mac_commands(keys: Path) -> None:
    done = decode("4004030201030000020305016A3798F5B64DC039")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert (
        "dev_addr           01020304" in lines and "frm_payload        -" in lines and "mic_ok             -" in lines
    )
    assert any("LinkADRAns (0305) ch_mask_ack=yes dr_ack=no power_ack=yes" in line for line in lines)


def test_wrong_keys_are_an_answer_and_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(KEYS | {"nwk_s_key": "00" * 16}))
    done = decode(PHY, "--keys", path, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["mic_ok"] is False


@pytest.mark.parametrize("text", ["zz", PHY[:20], "4" + PHY[1:] + "0", "ff" * 40, "00" * 300])
def test_what_is_no_frame_is_one_line_and_exit_1(text: str) -> None:
    done = decode(text, "--json")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: no frame: ")


@pytest.mark.parametrize(
    "content",
    [
        "44024241ed4ce9a68c6a8bc055233fd3",
        '{"nwk_s_key": "44024241ed4ce9a68c6a8bc055233fd3',
        '{"nwk_s_key": "44024241ed4ce9a68c6a8bc055233fd"}',
        '{"44024241ed4ce9a68c6a8bc055233fd3": "nwk_s_key"}',
        "[" * 4_000,
        " " * 5_000,
        "\xff",
    ],
)
def test_a_bad_keys_file_is_one_line_without_a_key_and_exit_1(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content, encoding="latin-1")
    done = decode(PHY, "--keys", path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "keys.json: keys: " in done.stderr and "44024241" not in done.stderr


def test_a_missing_keys_file_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = decode(PHY, "--keys", tmp_path / "none.json")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and "No such file" in done.stderr


def batch(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "frames.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def keys_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("nwk_s_key", "app_s_key")} | {"f_cnt": entry["fcnt32"]}


def test_a_batch_answers_line_by_line(tmp_path: Path) -> None:
    path = batch(tmp_path, *({"hex": entry["phy"], "keys": keys_of(entry)} for entry in GENERATED))
    done = decode("--batch", path)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 0
    assert [(one["frm_payload"], one["f_cnt"], one["mic_ok"]) for one in found] == [
        (entry["plain"], entry["fcnt32"], True) for entry in GENERATED
    ]


def test_a_bad_line_is_told_at_its_place_and_the_others_are_answered(tmp_path: Path, keys: Path) -> None:
    good = {"hex": PHY}
    path = batch(
        tmp_path, good, "{", "", "[]", {"hex": "00"}, {"hex": PHY, "keys": {"app_key": "5e"}}, "x" * 40_000, good
    )
    done = decode("--batch", path, "--keys", keys)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1 and done.stderr == ""
    assert ["error" in one for one in found] == [False, True, True, True, True, True, True, False]
    assert found[0] == found[-1] and found[0]["frm_payload"] == "74657374"
    assert "5e" not in done.stdout.splitlines()[5]


@pytest.mark.parametrize("args", [[], [PHY, "--batch", "x.jsonl"]])
def test_neither_and_both_are_wrong_use(args: list[str]) -> None:
    done = decode(*args)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1


def test_it_loads_nothing_of_the_daemon() -> None:
    code = (
        "import sys; from brim_gateway.cli import app\n"
        f"try: app(['decode', {PHY!r}])\nexcept SystemExit: pass\n"
        "heavy = ('sqlite3', 'asyncio', 'starlette', 'paho', 'brim_gateway.app')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
