"""The Wi-Fi link on the real interpreter against real TLS: what it trusts, and that every wait ends."""

import contextlib
import datetime
import getpass
import importlib
import ipaddress
import json
import shutil
import socket
import ssl
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).parents[2]
MICROPYTHON = shutil.which("micropython", path=sysconfig.get_path("scripts")) or shutil.which("micropython")
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin") or shutil.which("mosquitto")
DEV = "0011223344556677"

DEVICE = """
import json, sys, time
sys.path[:] = ["firmware", ".frozen"]
from brim.links.wifi_link import WifiLink

class Wlan:
    def __init__(self): self.up = False
    def active(self, on): pass
    def connect(self, ssid, key): self.up = (ssid, key) == ("city", "wifi-key")
    def isconnected(self): return self.up
    def disconnect(self): self.up = False

class Clock:
    ticks_ms = staticmethod(lambda: time.ticks_ms() & 0x3fffffff)
    sleep_ms = staticmethod(time.sleep_ms)

class Identity: pass

given = json.loads(sys.stdin.read())
identity = Identity()
identity.dev_eui = bytes.fromhex(given["dev"])
identity.ssid, identity.wifi_key = given["ssid"], "wifi-key"
identity.mqtt_host, identity.mqtt_port, identity.tls_name = "127.0.0.1", given["port"], given["name"]
identity.mqtt_pass = given["password"].encode() if given["password"] else None
def der(path):
    return open(path, "rb").read() if path else None
identity.ca, identity.cert, identity.key = der(given["ca"]), der(given["cert"]), der(given["key"])
clock = Clock()
link = WifiLink(Wlan(), identity, clock)
start = clock.ticks_ms()
out = {"open": link.open(start + given["budget_ms"]), "exchanges": []}
if out["open"] is None:
    for payload in given["payloads"]:
        got = link.exchange(bytes.fromhex(payload), start + given["budget_ms"])
        out["exchanges"].append([got.sent, got.held, got.fault, [c.hex() for c in got.commands]])
link.close()
out["ms"] = clock.ticks_ms() - start
print(json.dumps(out))
"""


@dataclass
class Made:
    """A certificate and its key, on disk as PEM and DER."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    stem: Path

    def file(self, suffix: str) -> str:
        return str(self.stem.with_suffix(suffix))


def make(directory: Path, name: str, issuer: Made | None = None, host: str | None = None) -> Made:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if host:
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key, directory / name)
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    private = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    made.stem.with_suffix(".pem").write_bytes(made.certificate.public_bytes(pem))
    made.stem.with_suffix(".der").write_bytes(made.certificate.public_bytes(der))
    made.stem.with_suffix(".key.pem").write_bytes(key.private_bytes(pem, *private))
    made.stem.with_suffix(".key.der").write_bytes(key.private_bytes(der, *private))
    return made


@dataclass
class Pki:
    ca: Made
    other_ca: Made
    server: Made
    bin: Made


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    directory = tmp_path_factory.mktemp("pki")
    ca = make(directory, "ca")
    return Pki(ca, make(directory, "other"), make(directory, "server", ca, "gateway.brim"), make(directory, DEV, ca))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mosquitto(directory: Path, pki: Pki, extra: str) -> Iterator[int]:
    assert MOSQUITTO, "mosquitto is needed: apt install mosquitto"
    port = free_port()
    passwords = directory / "passwords"
    passwords.write_text(f"{DEV}:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
    config = directory / "mosquitto.conf"
    config.write_text(
        f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\ncafile {pki.ca.file('.pem')}\n"
        f"certfile {pki.server.file('.pem')}\nkeyfile {pki.server.file('.key.pem')}\n{extra}"
    )
    broker = subprocess.Popen([MOSQUITTO, "-v", "-c", config], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert broker.stderr
        for line in broker.stderr:
            if b"running" in line:
                break
        threading.Thread(target=broker.stderr.read, daemon=True).start()
        yield port
    finally:
        broker.terminate()
        broker.wait()
        if broker.stderr:
            broker.stderr.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("broker")
    with mosquitto(directory, pki, f"allow_anonymous false\npassword_file {directory / 'passwords'}\n") as port:
        yield port


@dataclass
class Result:
    open: str | None
    exchanges: list[list[object]]
    ms: int


def run_bin(pki: Pki, port: int, **changes: object) -> Result:
    assert MICROPYTHON
    given: dict[str, object] = {
        "dev": DEV,
        "ssid": "city",
        "port": port,
        "name": "gateway.brim",
        "password": "secret",
        "ca": pki.ca.file(".der"),
        "cert": None,
        "key": None,
        "budget_ms": 10000,
        "payloads": ["0102"],
    }
    assert not set(changes) - set(given)
    # On stdin: an argument of more than 255 bytes kills this interpreter at start.
    done = subprocess.run(
        [MICROPYTHON, "-c", DEVICE],
        cwd=ROOT,
        input=json.dumps(given | changes),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout and "wifi-key" not in done.stdout
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def test_a_report_is_published_and_acknowledged(pki: Pki, broker: int) -> None:
    arrived: list[tuple[str, bytes, int]] = []
    subscribed = threading.Event()
    two = threading.Event()

    def on_message(_client: object, _data: object, message: Any) -> None:
        arrived.append((message.topic, message.payload, message.qos))
        if len(arrived) == 2:
            two.set()

    mqtt: Any = importlib.import_module("paho.mqtt.client")
    city = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "city")
    city.username_pw_set(DEV, "secret")
    city.tls_set(pki.ca.file(".pem"))
    city.on_message = on_message
    city.on_subscribe = lambda *_: subscribed.set()
    city.connect("127.0.0.1", broker)
    city.subscribe("brim/bin/+/up", qos=1)
    # What waits for the bin reaches it before its own acknowledgement.
    city.publish(f"brim/bin/{DEV}/down", bytes.fromhex("01000100070000"), qos=1, retain=True)
    city.loop_start()
    try:
        assert subscribed.wait(5)
        result = run_bin(pki, broker, payloads=["0102", "ff" * 27])
        assert two.wait(5)
    finally:
        city.publish(f"brim/bin/{DEV}/down", b"", qos=1, retain=True).wait_for_publish(5)
        city.disconnect()
        city.loop_stop()
    assert result.open is None
    assert [exchange[:3] for exchange in result.exchanges] == [[True, True, None]] * 2
    assert [command for exchange in result.exchanges for command in exchange[3]] == ["01000100070000"]  # type: ignore[attr-defined]
    assert arrived == [(f"brim/bin/{DEV}/up", b"\x01\x02", 1), (f"brim/bin/{DEV}/up", b"\xff" * 27, 1)]


def test_a_client_certificate_stands_for_the_password(pki: Pki, tmp_path: Path) -> None:
    with mosquitto(tmp_path, pki, "require_certificate true\nallow_anonymous true\n") as port:
        mine = {"password": None, "cert": pki.bin.file(".der"), "key": pki.bin.file(".key.der")}
        assert run_bin(pki, port, **mine).exchanges == [[True, True, None, []]]
        assert run_bin(pki, port, password=None, budget_ms=3000).open in ("tls", "mqtt")


def test_a_wrong_ca_is_refused(pki: Pki, broker: int) -> None:
    assert run_bin(pki, broker, ca=pki.other_ca.file(".der")).open == "tls"


def test_a_wrong_host_name_is_refused(pki: Pki, broker: int) -> None:
    assert run_bin(pki, broker, name="gateway.example").open == "tls"


def test_a_wrong_password_is_refused_by_name(pki: Pki, broker: int) -> None:
    assert run_bin(pki, broker, password="guess").open == "refused"


def test_no_network_and_no_gateway_are_told_apart(pki: Pki) -> None:
    assert run_bin(pki, 1, ssid="elsewhere", budget_ms=300).open == "wifi"
    assert run_bin(pki, free_port()).open == "tcp"


@contextlib.contextmanager
def server(pki: Pki, serve: Callable[[socket.socket, ssl.SSLContext], None]) -> Iterator[int]:
    """One connection, served on a thread."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.server.file(".pem"), pki.server.file(".key.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def accept() -> None:
        peer, _ = listener.accept()
        with peer, contextlib.suppress(OSError):
            serve(peer, context)
            done.wait(20)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join(5)
        listener.close()


def test_a_server_that_is_silent_before_tls_costs_bounded_time(pki: Pki) -> None:
    with server(pki, lambda peer, context: None) as port:
        result = run_bin(pki, port, budget_ms=500)
    assert result.open == "tls"
    assert result.ms < 2000


def talk(peer: ssl.SSLSocket, answers: bytes) -> None:
    peer.recv(1000)
    peer.sendall(answers)


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        (b"", "mqtt"),
        (b"\x20\x02\x00", "mqtt"),
        (b"\x20\x02\x00\x05", "refused"),
        (b"\x20\xff\xff\xff\x7f", "mqtt"),
        (b"\x20\xff\xff\xff\xff\xff", "mqtt"),
        (b"\x30\x00", "mqtt"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "mqtt"),
    ],
)
def test_a_server_that_speaks_no_mqtt_costs_bounded_time(pki: Pki, answers: bytes, fault: str) -> None:
    kept: list[ssl.SSLSocket] = []

    def serve(peer: socket.socket, context: ssl.SSLContext) -> None:
        kept.append(context.wrap_socket(peer, server_side=True))
        talk(kept[0], answers)

    with server(pki, serve) as port:
        result = run_bin(pki, port, budget_ms=700)
    for peer in kept:
        peer.close()
    assert result.open == fault
    assert result.ms < 2500


@pytest.mark.parametrize(
    ("answers", "fault"), [(b"", "puback"), (b"\x40\x02\x00\x63", "puback"), (b"\x30\x01\x00", "puback")]
)
def test_without_its_puback_nothing_is_held(pki: Pki, answers: bytes, fault: str) -> None:
    kept: list[ssl.SSLSocket] = []

    def serve(peer: socket.socket, context: ssl.SSLContext) -> None:
        kept.append(context.wrap_socket(peer, server_side=True))
        talk(kept[0], b"\x20\x02\x00\x00")
        talk(kept[0], answers)

    with server(pki, serve) as port:
        result = run_bin(pki, port, budget_ms=900)
    for peer in kept:
        peer.close()
    assert result.open is None
    assert result.exchanges[0][:3] == [True, False, fault]
    assert result.ms < 2500
