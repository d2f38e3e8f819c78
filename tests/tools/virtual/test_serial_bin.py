"""The virtual bin's serial line, spoken to by the unmodified mpremote."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from brim_tools.virtual.chips import Litter
from brim_tools.virtual.interpreter import Zygote
from brim_tools.virtual.serial_bin import SerialBin
from brim_tools.virtual.world import World


@pytest.fixture(scope="module")
def port(image: Path) -> Iterator[str]:
    """An unprovisioned bin behind a pty; its world runs in a thread."""
    world = World(paced=True)
    with Zygote() as zygote:
        serial = SerialBin(world, zygote, image, Litter(lambda now_us: 800), "70b3d57ed0051f2a", tcp_port=0)
        runner = threading.Thread(target=world.run)
        runner.start()
        yield serial.urls[0]
        world.stop()
        runner.join(10)
        serial.close()
        world.close()


def mpremote(port: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", port, *arguments], capture_output=True, text=True, timeout=30
    )


def test_exec_and_eval(port: str) -> None:
    assert mpremote(port, "exec", "import sys; print(sys.implementation.name)").stdout == "micropython\r\n".replace(
        "\r", ""
    )
    assert mpremote(port, "eval", "6*7").stdout.strip() == "42"


def test_files_go_in_and_come_out(port: str, tmp_path: Path) -> None:
    source, back = tmp_path / "there.bin", tmp_path / "back.bin"
    source.write_bytes(bytes(range(256)) * 40)
    assert mpremote(port, "fs", "cp", str(source), ":there.bin").returncode == 0
    assert mpremote(port, "fs", "cp", ":there.bin", str(back)).returncode == 0
    assert back.read_bytes() == source.read_bytes()
    assert "there.bin" in mpremote(port, "fs", "ls").stdout


def test_a_soft_reset_keeps_the_flash_and_clears_the_heap(port: str) -> None:
    assert mpremote(port, "exec", "x = 1", "soft-reset").returncode == 0
    assert "NameError" in mpremote(port, "exec", "print(x)").stderr + mpremote(port, "exec", "print(x)").stdout


def test_a_traceback_and_its_exit_code_come_back(port: str) -> None:
    done = mpremote(port, "exec", "1 // 0")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stdout + done.stderr


def test_the_chips_answer_behind_the_repl(port: str) -> None:
    code = "import machine; print(machine.I2C(0).readfrom_mem(0x18, 0x0F, 1)[0])"
    assert mpremote(port, "exec", code).stdout.strip() == "51"
