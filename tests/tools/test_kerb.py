"""The technician's commands against the bin's own console code behind a socket."""

import importlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brim.core.console import Console
from brim.links import Exchange
from brim_tools.kerb.cli import app
from brim_tools.kerb.text import clean, clean_fields
from typer.testing import CliRunner

# The device's fakes are written for MicroPython, without types.
Bench: Any = importlib.import_module("tests.device.bench").Bench
ROOT = Path(__file__).parents[2]
DEV = "0011223344556677"


def answering(bench: Any) -> Callable[[bytes], Iterator[bytes]]:
    console = Console(bench.boot(cold=True))

    def answer(line: bytes) -> Iterator[bytes]:
        yield b"reading 1:1 ok 812\r\n"  # what a bin logs in between
        for text in console.handle(line):
            yield text.encode() + b"\r\n"

    return answer


@contextmanager
def served(answer: Callable[[bytes], Iterator[bytes]]) -> Iterator[str]:
    """A bin behind socket://, one line after the other, one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer, peer.makefile("rb") as lines:
            try:
                for line in lines:
                    if line.strip():
                        for data in answer(line):
                            peer.sendall(data)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"socket://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        thread.join(5)


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_who_says_which_bin_it_is() -> None:
    with served(answering(Bench())) as port:
        code, out, _ = run("who", "--port", port, "--json")
    assert code == 0
    fields = json.loads(out)
    assert fields["dev"] == DEV and fields["bin"] == "SE-0180-04711" and fields["unsent"] == 0


def test_live_shows_every_measurement() -> None:
    with served(answering(Bench())) as port:
        code, out, _ = run("live", "--port", port, "-n", "3")
    assert code == 0
    assert out.count("812 mm") == 3


def test_live_shows_a_status_where_there_is_no_distance() -> None:
    bench = Bench()
    bench.echoes = [0] * 15
    with served(answering(bench)) as port:
        code, out, _ = run("live", "--port", port, "-n", "1")
    assert code == 0
    assert "no_echo" in out and "0 mm" not in out


def test_calibrate_keeps_the_distance_of_the_empty_bin() -> None:
    bench = Bench()
    with served(answering(bench)) as port:
        assert run("calibrate", "--port", port)[0] == 0
    assert json.loads(bench.settings)["empty_mm"] == 812


def test_calibrate_refuses_an_unsteady_distance() -> None:
    bench = Bench()
    bench.echoes = [780, 800, 812, 830, 850]
    with served(answering(bench)) as port:
        code, out, err = run("calibrate", "--port", port)
    assert (code, out) == (1, "")
    assert "unsteady" in err and len(err.splitlines()) == 1
    assert bench.settings == "{}"


def test_test_uplink_sends_a_real_reading() -> None:
    bench = Bench()
    bench.link.then = Exchange(True, True)
    with served(answering(bench)) as port:
        code, out, _ = run("test-uplink", "--port", port)
    assert code == 0
    assert "reading 1:1 sent, and the gateway holds it" in out
    assert len(bench.link.reports) == 1


def test_test_uplink_fails_when_nothing_was_sent() -> None:
    bench = Bench()
    bench.link.open_fault = "no join"
    with served(answering(bench)) as port:
        code, out, _ = run("test-uplink", "--port", port)
    assert code == 1
    assert "NOT sent: no join" in out


def test_diagnose_names_what_is_broken() -> None:
    bench = Bench()
    bench.celsius = None
    with served(answering(bench)) as port:
        code, out, _ = run("diagnose", "--port", port)
    assert code == 1
    assert [line.split()[1] for line in out.splitlines() if line.startswith("FAIL")] == ["thermometer"]
    with served(answering(Bench())) as port:
        assert run("diagnose", "--port", port)[0] == 0


def test_a_silent_bin_costs_the_given_time_and_one_line() -> None:
    with served(lambda line: iter(())) as port:
        code, out, err = run("who", "--port", port, "--wait", "0.5")
    assert (code, out) == (1, "")
    assert "button" in err and len(err.splitlines()) == 1


def test_no_port_is_one_line() -> None:
    for port in ("socket://127.0.0.1:1", "socket://nowhere", "socket://h:99999", "/dev/does-not-exist"):
        code, out, err = run("who", "--port", port)
        assert (code, out) == (1, "") and len(err.splitlines()) == 1, (port, err)


def test_wrong_use_is_exit_code_2() -> None:
    assert run("who")[0] == 2
    assert run("live", "--port", "x", "-n", "0")[0] == 2
    assert run("fly")[0] == 2


def test_every_help_has_an_example() -> None:
    for verb in ("ports", "who", "live", "calibrate", "test-uplink", "diagnose"):
        code, out, _ = run(verb, "--help")
        assert code == 0 and f"brim bin {verb}" in out


def test_nothing_from_a_bin_reaches_the_terminal_unclean() -> None:
    def hostile(line: bytes) -> Iterator[bytes]:
        from brim.wire.console_line import decode_request, encode_ok

        ident = decode_request(line)[0]
        yield b"\x1b]0;title\x07\x1b[2J" + b"A" * 3000 + b"\r\n"
        yield b"=" + ident.encode() + b" ok {forged}\r\n"
        yield encode_ok(ident, {"dev": "\x1b[31mred\x00", "n\x07": "‮x", "list": ["\x1b"], "big": 7}).encode() + b"\r\n"

    for extra in ((), ("--json",)):
        with served(hostile) as port:
            code, out, _ = run("who", "--port", port, *extra)
        assert code == 0
        assert all(char.isprintable() or char == "\n" for char in out)
        assert "AAAA" not in out and "big" in out


def test_text_is_cut_and_numbers_stay() -> None:
    assert clean("x" * 500) == "x" * 119 + "…"
    assert clean_fields({"a": 1, "b": None, "c": True, "d": {"e": "\n"}}) == {
        "a": 1,
        "b": None,
        "c": True,
        "d": "{'e': '\\n'}",
    }


def test_a_pseudo_terminal_is_a_port_like_any_other() -> None:
    bin_end, tool_end = pty.openpty()
    tty.setraw(bin_end)
    answer = answering(Bench())

    def serve() -> None:
        line = b""
        while True:
            try:
                char = os.read(bin_end, 1)
            except OSError:
                return
            line += char
            if char == b"\n":
                if line.strip():
                    for data in answer(line):
                        os.write(bin_end, data)
                    return
                line = b""

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        code, out, err = run("who", "--port", os.ttyname(tool_end), "--json")
        assert code == 0, err
        assert json.loads(out)["dev"] == DEV
    finally:
        thread.join(5)
        os.close(tool_end)
        os.close(bin_end)


BLOCKED = """
import importlib.abc, sys
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("termios", "fcntl", "pty", "tty", "brim_gateway"):
            raise ImportError(f"blocked: {name}")
for name in ("termios", "fcntl", "pty", "tty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Block())
from brim_tools.kerb.cli import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize("words", [("who", "--json"), ("live", "-n", "1"), ("diagnose",)])
def test_a_laptop_without_posix_can_do_it(words: tuple[str, ...]) -> None:
    with served(answering(Bench())) as port:
        done = subprocess.run(
            [sys.executable, "-c", BLOCKED, *words, "--port", port],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("firmware", "tools"))},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 0, done.stderr


def test_ports_says_what_a_port_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    port = ListPortInfo("/dev/ttyUSB7")
    port.vid, port.pid, port.serial_number = 0x10C4, 0xEA60, "ev\x1bil"
    monkeypatch.setattr(list_ports, "comports", lambda: [port])
    code, out, _ = run("ports", "--json")
    assert code == 0
    fields = json.loads(out)
    assert fields["port"] == "/dev/ttyUSB7" and "CP210x" in fields["looks_like"] and fields["usb"] == "10c4:ea60"
    assert fields["serial"] == "ev?il"
    monkeypatch.setattr(list_ports, "comports", list)
    code, out, err = run("ports")
    assert (code, out) == (1, "") and len(err.splitlines()) == 1
