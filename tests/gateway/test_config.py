"""A configuration is right, or every mistake in it is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from brim_gateway.config import Config, load, parse
from brim_gateway.errors import ConfigInvalid
from brim_gateway.setup_files import Wanted, write_setup
from hypothesis import given, settings
from hypothesis import strategies as st

BAD = """\
site = "a/b"
linger_ms = "fast"
colour = "red"

[udp]
listen = "127.0.0.1"
allow_gateways = ["xyz"]

[mqtt_listener]
listen = "0.0.0.0:8883"
cert = "nowhere.pem"

[[output]]
name = "city"
url = "mqtt://broker.example.org"

[[output]]
name = "city"
url = "http://broker.example.org"
password_file = "open.password"
"""


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parse(text, folder / "brim.toml")
    return [line.removeprefix(f"{folder}/brim.toml:") for line in caught.value.problems]


def test_every_mistake_is_named_at_once_with_its_line_and_what_to_do(tmp_path: Path) -> None:
    secret = tmp_path / "open.password"
    secret.write_text("x")
    secret.chmod(0o644)
    found = problems(BAD, tmp_path)
    expected = [
        (1, "site", "topic level"),
        (2, "linger_ms", "whole number"),
        (3, "colour", "unknown; known here"),
        (6, "udp.listen", "HOST:PORT"),
        (7, "udp.allow_gateways", "16 hexadecimal"),
        (11, "mqtt_listener.cert", "no such file"),
        (11, "mqtt_listener.cert", "belong together"),
        (15, "output[0].url", "mqtts://"),
        (19, "output[1].url", "must be"),
        (20, "output[1].password_file", "needs a user"),
        (20, "output[1].password_file", "chmod 600"),
        (18, "output[1].name", "used twice"),
    ]
    for line, key, hint in expected:
        assert any(text.startswith(f"{line}: {key}") and hint in text for text in found), (line, key, hint, found)
    assert [int(text.split(":")[0]) for text in found] == sorted(int(text.split(":")[0]) for text in found)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("site = ", "not TOML"),
        ("", "site: is missing"),
        ('site = "s"\n[mqtt_listener]\nlisten = "0.0.0.0:1"', "plain = true"),
        ('site = "s"\n[output]\nname = "x"', "two brackets"),
        ('site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://u:p@h"', "no password here"),
        ('site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://h"\nwindow = 0', "1 to 1000"),
        ('site = "s"\nudp = 3', "must be a table"),
        ('site = "s"\n[http]\nlisten = "127.0.0.1:99999"', "HOST:PORT"),
        ('site = "s"\ncontrol_socket = "' + "x" * 200 + '"', "107 bytes"),
    ],
)
def test_each_mistake_has_its_hint(tmp_path: Path, text: str, hint: str) -> None:
    assert any(hint in line for line in problems(text, tmp_path))


def test_a_password_never_shows_in_a_problem(tmp_path: Path) -> None:
    found = problems('site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://u:hunter2@h"', tmp_path)
    assert not any("hunter2" in line for line in found)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_configuration_or_problems(text: str) -> None:
    for whole in (text, f'site = "s"\n{text}', f'site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://h"\n{text}'):
        try:
            assert isinstance(parse(whole, Path("/nowhere/brim.toml")), Config)
        except ConfigInvalid as exc:
            assert exc.problems


def test_plain_mqtt_needs_loopback_or_a_word(tmp_path: Path) -> None:
    for url, more in (("mqtt://127.0.0.1", ""), ("mqtt://localhost:1883", ""), ("mqtt://h", "plain = true")):
        config = parse(f'site = "s"\n[[output]]\nname = "x"\nurl = "{url}"\n{more}', tmp_path / "brim.toml")
        assert not config.outputs[0].tls and config.outputs[0].port == 1883


def test_what_init_writes_is_valid_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cabinet" / "brim.toml"
    wanted = Wanted("cabinet-017", output_url="mqtts://broker.example.org", wifi_listen="127.0.0.1:0")
    written = write_setup(path, wanted)
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in written)
    config = load(path)
    assert (config.site, config.udp and str(config.udp.listen)) == ("cabinet-017", "127.0.0.1:1700")
    assert config.mqtt_listener is not None and config.mqtt_listener.cert is not None
    assert config.outputs[0].tls and config.outputs[0].port == 8883
    with pytest.raises(ConfigInvalid, match="exists already"):
        write_setup(path, wanted)
    with pytest.raises(ConfigInvalid, match="not empty"):
        write_setup(path.with_name("other.toml"), wanted)


def test_init_without_answers_lets_no_wifi_bin_in_and_has_no_output(tmp_path: Path) -> None:
    write_setup(tmp_path / "brim.toml", Wanted("s"))
    config = load(tmp_path / "brim.toml")
    assert config.mqtt_listener is None and config.outputs == () and config.http is not None


def test_init_refuses_a_site_that_is_no_topic_level_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="topic level"):
        write_setup(tmp_path / "brim.toml", Wanted("a b"))
    assert list(tmp_path.iterdir()) == []
