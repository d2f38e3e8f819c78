"""The MQTT codec: any bytes give packets or MqttError, however they are cut."""

from __future__ import annotations

import paho.mqtt.client as paho
import pytest
from brim_gateway.mqtt import server_codec as mqtt
from hypothesis import given, settings
from hypothesis import strategies as st

CONNECT_311 = bytes.fromhex("101700044d51545404c2003c0003646576000275730002") + b"pw"
CONNECT_5 = bytes.fromhex("101500044d51545405c2003c0000036465760002757300") + b"\x00"


def parse(data: bytes, cuts: list[int] | None = None) -> list[mqtt.Packet]:
    parser = mqtt.Parser()
    packets: list[mqtt.Packet] = []
    for start, end in zip([0, *(cuts or [])], [*(cuts or []), len(data)], strict=True):
        packets += parser.feed(data[start:end])
    return packets


def connect(version: int = 4, user: str = "us", password: bytes = b"pw") -> bytes:
    body = b"\x00\x04MQTT" + bytes((version, 0xC2, 0, 60)) + (b"\x00" if version == 5 else b"")
    for part in (b"dev", user.encode(), password):
        body += len(part).to_bytes(2, "big") + part
    return b"\x10" + bytes((len(body),)) + body


def publish(version: int, topic: str, payload: bytes, qos: int = 1, packet_id: int = 7) -> bytes:
    return mqtt.publish(version, topic, payload, qos, packet_id)


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_parses_however_it_is_cut(version: int) -> None:
    stream = connect(version) + publish(version, "a/b", b"x" * 300) + b"\xc0\x00" + b"\xe0\x00"
    whole = parse(stream)
    assert [type(packet) for packet in whole] == [mqtt.Connect, mqtt.Publish, mqtt.Ping, mqtt.Disconnect]
    first, second = whole[0], whole[1]
    assert isinstance(first, mqtt.Connect) and (first.user, first.password) == ("us", b"pw")
    assert isinstance(second, mqtt.Publish) and second == mqtt.Publish("a/b", b"x" * 300, 1, 7)
    assert parse(stream, list(range(1, len(stream)))) == whole


def test_a_password_never_shows_in_a_repr() -> None:
    assert "pw" not in repr(parse(connect(password=b"pw-secret"))[0])


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_packets_or_the_one_error(data: bytes, cuts: list[int]) -> None:
    ordered = sorted(min(cut, len(data)) for cut in cuts)
    try:
        whole: list[mqtt.Packet] | str = parse(data)
    except mqtt.MqttError as exc:
        whole = str(exc)
    try:
        in_parts: list[mqtt.Packet] | str = parse(data, ordered)
    except mqtt.MqttError as exc:
        in_parts = str(exc)
    assert whole == in_parts


@given(st.sampled_from([4, 5]), st.binary(max_size=120), st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_packets_after_connect_give_packets_or_the_one_error(
    version: int, tail: bytes, data: st.DataObject
) -> None:
    packets = [
        publish(version, "brim/bin/x/up", b"payload"),
        bytes.fromhex("8206000100016101") if version == 4 else bytes.fromhex("820700010000016101"),
        bytes.fromhex("a20500010001 61".replace(" ", "")) if version == 4 else bytes.fromhex("a206000100000161"),
        b"\x40\x02\x00\x01",
    ]
    stream = bytearray(b"".join(packets) + tail)
    for _ in range(data.draw(st.integers(0, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    parser = mqtt.Parser()
    assert len(list(parser.feed(connect(version)))) == 1
    try:
        found = list(parser.feed(bytes(stream)))
    except mqtt.MqttError as exc:
        assert 0x80 <= exc.code <= 0xA2
    else:
        assert all(isinstance(packet, mqtt.Publish) or packet for packet in found)


@given(
    st.sampled_from([4, 5]),
    st.text(st.characters(codec="utf-8", exclude_characters="+#\0"), min_size=1, max_size=40),
    st.binary(max_size=400),
    st.integers(1, 0xFFFF),
)
@settings(max_examples=100, deadline=None)
def test_what_is_built_is_what_is_parsed(version: int, topic: str, payload: bytes, packet_id: int) -> None:
    parser = mqtt.Parser()
    list(parser.feed(connect(version)))
    found = list(parser.feed(mqtt.publish(version, topic, payload, 1, packet_id)))
    assert found == [mqtt.Publish(topic, payload, 1, packet_id)]


@pytest.mark.parametrize(
    ("what", "stream", "code"),
    [
        ("first packet is no CONNECT", b"\xc0\x00", mqtt.PROTOCOL_ERROR),
        ("second CONNECT", connect() + connect(), mqtt.PROTOCOL_ERROR),
        ("MQTT 3.1", b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x00", mqtt.BAD_VERSION),
        ("MQTT 6", connect(6), mqtt.BAD_VERSION),
        ("too large", b"\x10\xff\xff\x7f", mqtt.PACKET_TOO_LARGE),
        ("length of five bytes", b"\x10\xff\xff\xff\xff", mqtt.MALFORMED),
        ("QoS 2", connect() + b"\x34\x06\x00\x01a\x00\x01x", mqtt.QOS_NOT_SUPPORTED),
        ("QoS 3", connect() + b"\x36\x06\x00\x01a\x00\x01x", mqtt.MALFORMED),
        ("wildcard in a topic name", connect() + b"\x30\x04\x00\x01#x", mqtt.MALFORMED),
        ("packet identifier 0", connect() + b"\x32\x05\x00\x01a\x00\x00", mqtt.MALFORMED),
        ("topic alias", connect(5) + b"\x30\x08\x00\x01a\x03\x23\x00\x01x", mqtt.TOPIC_ALIAS_INVALID),
        ("PUBREL", connect() + b"\x62\x02\x00\x01", mqtt.PROTOCOL_ERROR),
        ("no filters", connect() + b"\x82\x02\x00\x01", mqtt.PROTOCOL_ERROR),
        ("reserved flags", connect() + b"\xc1\x00", mqtt.MALFORMED),
        ("not UTF-8", connect() + b"\x30\x04\x00\x02\xff\xfe", mqtt.MALFORMED),
        ("string past the end", connect() + b"\x30\x04\x00\x09ab", mqtt.MALFORMED),
    ],
)
def test_each_breach_has_its_reason(what: str, stream: bytes, code: int) -> None:
    with pytest.raises(mqtt.MqttError) as caught:
        parse(stream)
    assert caught.value.code == code, what


def test_the_constants_are_those_of_paho() -> None:
    assert (mqtt.CONNECT << 4, mqtt.PUBLISH << 4, mqtt.SUBACK << 4) == (paho.CONNECT, paho.PUBLISH, paho.SUBACK)
