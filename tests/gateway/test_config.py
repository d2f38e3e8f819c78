"""A configuration is right, or every mistake in it is named with its line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from brim_gateway import config_words, credentials
from brim_gateway.config import Address, Config, MqttListenerConfig, OutputConfig, UdpConfig, load, parse
from brim_gateway.config_kinds import KINDS
from brim_gateway.config_table import KEYS, SECTIONS
from brim_gateway.errors import ConfigInvalid
from brim_gateway.setup_files import Wanted, write_setup
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]

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
        ('site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://h"\nwindow = 0', "1 to 2000"),
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
    assert all(one.stat().st_mode & 0o777 == 0o600 for one in written if one != path)
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


def test_a_mistyped_key_is_told_what_was_meant(tmp_path: Path) -> None:
    text = 'site = "s"\nlinger = 3\nwindow = 5\n[udp]\nlisten = "127.0.0.1:0"\nalow_gateways = []\n[outputs]\n'
    found = problems(text, tmp_path)
    for line, hint in (
        (2, "did you mean linger_ms?"),
        (3, "it belongs under [output]"),
        (6, "did you mean allow_gateways?"),
        (7, "did you mean output?"),
    ):
        assert any(one.startswith(f"{line}: ") and hint in one for one in found), (line, hint, found)


def test_the_table_is_whole_and_its_defaults_are_those_of_the_dataclasses(tmp_path: Path) -> None:
    names = [(key.section, key.name) for key in KEYS]
    assert len(set(names)) == len(names) and all(key.meaning and key.kind in KINDS for key in KEYS)
    assert {key.section for key in KEYS} == {section.name for section in SECTIONS}
    text = 'site = "s"\n[udp]\nlisten = "h:1"\n[mqtt_listener]\nlisten = "h:1"\nplain = true\n'
    config = parse(text + '[[output]]\nname = "x"\nurl = "mqtts://h"\n', tmp_path / "brim.toml")
    here = Address("h", 1)
    assert config == Config(
        site="s",
        data_dir=tmp_path / "data",
        control_socket=tmp_path / "data" / "control.sock",
        udp=UdpConfig(here),
        mqtt_listener=MqttListenerConfig(here, plain=True),
        outputs=(OutputConfig("x", "h", 8883, True),),
    )


def test_the_readme_has_the_table_as_it_is() -> None:
    assert config_words.markdown() in (ROOT / "gateway/README.md").read_text()


WHOLE = """\
site = "s"
data_dir = "d"
control_socket = "c"
linger_ms = 0
log_format = "json"
clock = "trusted"
keep_days = 0
keep_max_mb = 1
udp = {listen = "[::1]:1", allow_gateways = ["AA555A0000000101"], trust_time = true, rate_limit = 300}
http = {listen = "127.0.0.1:0"}
[mqtt_listener]
listen = "0.0.0.0:1"
cert = "f"
key = "f"
client_ca = "f"
plain = false
max_connections = 1
max_handshakes = 256
[[output]]
name = "x"
url = "mqtts://h:1"
user = "u"
password_file = "f"
ca = "f"
cert = "f"
key = "f"
plain = true
protocol = "3.1.1"
window = 2000
from = "oldest"
client_id = "i"
"""


def test_every_key_can_be_said_and_the_schema_agrees(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0o600)
    config = parse(WHOLE, tmp_path / "brim.toml")
    assert (config.clock, config.keep_days, config.keep_max_mb) == ("trusted", 0, 1)
    assert config.outputs[0].window == 2000 and config.outputs[0].from_oldest
    assert config.udp is not None and config.udp.allow_gateways == ("aa555a0000000101",)
    assert config.udp.rate_limit == 300
    said = tomllib.loads(WHOLE)
    schema = config_words.schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema_faults(schema, said) == []
    inner = [said, said["udp"], said["http"], said["mqtt_listener"], said["output"][0]]
    assert sum(len(one) for one in inner) == len(KEYS) + len(SECTIONS) - 1, "a key is missing above"


def schema_faults(schema: dict[str, Any], value: Any, where: str = "") -> list[str]:
    """Enough of JSON Schema to see a disagreement."""
    if "enum" in schema:
        return [] if value in schema["enum"] else [where]
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [where]
    if isinstance(value, dict):
        faults = [f"{where}.{name}" for name in value if name not in schema["properties"]]
        faults += [f"{where}.{name}" for name in schema["required"] if name not in value]
        for name, one in value.items():
            faults += schema_faults(schema["properties"].get(name, {"enum": [one]}), one, f"{where}.{name}")
        return faults
    if isinstance(value, list):
        too_many = [where] if len(value) > schema.get("maxItems", len(value)) else []
        return too_many + [fault for one in value for fault in schema_faults(schema["items"], one, where)]
    if isinstance(value, str):
        long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        good = long_enough and re.search(schema.get("pattern", ""), value)
        return [] if good else [where]
    return [] if not isinstance(value, int) or "minimum" not in schema else _out_of_bounds(schema, value, where)


def _out_of_bounds(schema: dict[str, Any], value: int, where: str) -> list[str]:
    return [] if schema["minimum"] <= value <= schema["maximum"] else [where]


@pytest.mark.parametrize(
    "wrong",
    ['site = "a/b"', "linger_ms = 1001", 'clock = "gps"', "keep_days = -1", "colour = 1", 'udp = {listen = "x"}'],
)
def test_what_the_schema_refuses_the_reader_refuses_too(tmp_path: Path, wrong: str) -> None:
    text = wrong if wrong.startswith("site") else f'site = "s"\n{wrong}'
    assert schema_faults(config_words.schema(), tomllib.loads(text)) != []
    assert problems(text, tmp_path)


def test_a_secret_may_be_a_credential_of_systemds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'site = "s"\n[[output]]\nname = "x"\nurl = "mqtts://h"\nuser = "u"\npassword_file = "credential:city"'
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert any("LoadCredential=" in line for line in problems(text, tmp_path))
    lenient = parse(text, tmp_path / "brim.toml", need_credentials=False).outputs[0].password_file
    assert lenient == Path("/run/credentials/brim-gateway.service/city")
    given = tmp_path / "credentials"
    given.mkdir()
    (given / "city").write_text("secret\n")
    # systemd lets its service's user read by an ACL, which shows as a group that may read.
    (given / "city").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    found = parse(text, tmp_path / "brim.toml").outputs[0].password_file
    assert found == given / "city" and credentials.read_secret(found) == "secret"
    for bad in ("../x", "a/b", ""):
        assert any("credential:NAME" in line for line in problems(text.replace(":city", f":{bad}"), tmp_path))


def test_init_writes_the_password_it_was_given_and_a_file_that_runs(tmp_path: Path) -> None:
    wanted = Wanted("s", output_url="mqtts://h", output_user="u", output_password_file="p", output_password="hunter2")
    written = write_setup(tmp_path / "brim.toml", wanted)
    assert (tmp_path / "p") in written and (tmp_path / "p").stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in (tmp_path / "brim.toml").read_text() and "hunter2" not in repr(wanted)
    assert load(tmp_path / "brim.toml").outputs[0].password_file == tmp_path / "p"
