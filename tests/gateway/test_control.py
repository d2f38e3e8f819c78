"""The control socket: private, bounded, and deaf to nonsense."""

from __future__ import annotations

import json
import random
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from brim_gateway.errors import StoreFault

from tests.gateway.support import RunningGateway, make_config


def talk(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
        return answer


def test_only_the_owner_may_open_it_and_a_left_over_socket_is_replaced(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    config.data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(config.control_socket))
    with RunningGateway(config) as gateway:
        assert stat.S_IMODE(config.control_socket.stat().st_mode) == 0o600
        assert gateway.ask("status")["healthy"]
    assert not config.control_socket.exists()


def test_nonsense_gets_a_refusal_and_disturbs_nobody(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    chance = random.Random(1)
    with RunningGateway(config) as gateway:
        requests = [
            b"{}", b"[]", b"null", b"{" * 5_000, b'{"verb": 3}', b'{"verb": "status", "args": []}', b"\xff\xfe",
            b'{"verb": "nothing"}', b'{"verb": "bins.add"}', b'{"verb": "bins.add", "args": {"rows": [[1, 2]]}}',
            b'{"verb": "bins.import", "args": {"csv": 7}}', b'{"verb": "bins.show", "args": {"bin": null}}',
            *(chance.randbytes(40).replace(b"\n", b"") for _ in range(200)),
        ]  # fmt: skip
        answers = talk(config.control_socket, b"\n".join(requests) + b"\n").splitlines()
        assert len(answers) == len(requests)
        assert all("error" in json.loads(answer) and json.loads(answer)["problems"] for answer in answers)
        assert gateway.ask("status")["healthy"]


def test_more_clients_than_places_are_turned_away(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with RunningGateway(config) as gateway:
        clients = []
        for _ in range(12):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(5)
            sock.connect(str(config.control_socket))
            clients.append(sock)
        turned_away = 0
        for sock in clients:
            try:
                sock.sendall(b'{"verb": "status"}\n')
                turned_away += not sock.recv(65_536)
            except ConnectionError:
                turned_away += 1
        with pytest.raises(StoreFault, match="others ask; try again"):
            gateway.ask("status")
        for sock in clients:
            sock.close()
        assert turned_away == 4
        assert gateway.ask("status")["healthy"]


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    config.data_dir.mkdir()
    config.control_socket.write_text("somebody's notes")
    with pytest.raises(StoreFault, match="something else of that name"), RunningGateway(config):
        pass
    assert config.control_socket.read_text() == "somebody's notes"


def test_a_socket_that_a_living_daemon_answers_on_is_not_taken_from_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    other = replace(config, data_dir=tmp_path / "other")
    with RunningGateway(config) as gateway:
        with pytest.raises(StoreFault, match="another gateway answers there"), RunningGateway(other):
            pass
        assert config.control_socket.exists() and gateway.ask("status")["healthy"]


def test_a_daemon_that_stops_leaves_anothers_socket_alone(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    with RunningGateway(config):
        config.control_socket.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(config.control_socket))
    assert config.control_socket.exists()


def test_a_client_that_stays_connected_does_not_hold_up_the_stop_or_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(tmp_path)
    with socket.socket(socket.AF_UNIX) as client, RunningGateway(config):
        client.settimeout(5)
        client.connect(str(config.control_socket))
        client.sendall(b'{"verb": "status"}\n')
        assert client.recv(65_536).startswith(b'{"ok"')
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
