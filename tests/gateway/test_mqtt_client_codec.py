"""The client's side of MQTT: packed as paho packs it, and any bytes of a broker end in a packet or in PeerError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from brim_gateway.mqtt import client_codec as mqtt
from brim_gateway.mqtt import server_codec
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

make_properties: Callable[[int], Any] = Properties


@pytest.mark.parametrize(
    ("content_type", "expiry_s", "user"),
    [
        ("application/json", 1_209_600, (("uid", "70b3d57ed0051f2a:1:7"), ("replay", "0"))),
        ("x" * 200, None, ()),
        ("t", 1, (("å", "ä" * 40), ("uid", ""))),
    ],
)
def test_the_properties_are_packed_as_paho_packs_them(
    content_type: str, expiry_s: int | None, user: tuple[tuple[str, str], ...]
) -> None:
    theirs = make_properties(PacketTypes.PUBLISH)
    theirs.PayloadFormatIndicator = 1
    theirs.ContentType = content_type
    if expiry_s is not None:
        theirs.MessageExpiryInterval = expiry_s
    if user:
        theirs.UserProperty = list(user)
    packed = mqtt.properties(content_type, expiry_s, user)
    ours = make_properties(PacketTypes.PUBLISH)
    size, used = ours.unpack(packed)
    assert used == len(packed) and size
    assert ours.json() == theirs.json()


def connack_by_paho(**limits: Any) -> bytes:
    properties = make_properties(PacketTypes.CONNACK)
    for name, value in limits.items():
        setattr(properties, name, value)
    body = b"\0\0" + properties.pack()
    return bytes((0x20, len(body))) + body


def test_a_connack_of_every_property_that_paho_can_write_is_read() -> None:
    packet = connack_by_paho(
        ReceiveMaximum=20, MaximumQoS=1, RetainAvailable=0, MaximumPacketSize=4096, ServerKeepAlive=10,
        ReasonString="grüezi", AssignedClientIdentifier="x", TopicAliasMaximum=5, SessionExpiryInterval=7,
        WildcardSubscriptionAvailable=1, SubscriptionIdentifierAvailable=1, SharedSubscriptionAvailable=0,
        ResponseInformation="r", ServerReference="s", AuthenticationMethod="a", AuthenticationData=b"d",
        UserProperty=[("a", "b"), ("c", "d")],
    )  # fmt: skip
    (found,) = mqtt.Parser(5).feed(packet)
    assert found == mqtt.Connack(0, 20, 1, False, 4096, 10, "grüezi")


def test_a_broker_that_knows_3_1_1_only_is_understood_in_its_own_words() -> None:
    assert list(mqtt.Parser(5).feed(b"\x20\x02\x00\x01")) == [mqtt.Connack(mqtt.UNSUPPORTED_VERSION)]
    assert list(mqtt.Parser(4).feed(b"\x20\x02\x00\x05")) == [mqtt.Connack(0x87)]


@given(
    acks=st.lists(st.tuples(st.integers(1, 65_535), st.sampled_from([None, 0, 0x10, 0x87, 0x97])), max_size=40),
    cuts=st.lists(st.integers(1, 7), min_size=1),
)
def test_acknowledgements_are_read_however_the_stream_is_cut(
    acks: list[tuple[int, int | None]], cuts: list[int]
) -> None:
    stream, expected = b"", []
    for packet_id, reason in acks:
        body = packet_id.to_bytes(2, "big") + (b"" if reason is None else bytes((reason,)))
        stream += bytes((0x40, len(body))) + body
        expected.append(mqtt.Puback(packet_id, reason or 0))
    parser, found, at, i = mqtt.Parser(5), [], 0, 0
    while at < len(stream):
        step = cuts[i % len(cuts)]
        found += list(parser.feed(stream[at : at + step]))
        at, i = at + step, i + 1
    assert found == expected


@given(st.integers(0, 100_000), st.text(max_size=40), st.booleans(), st.sampled_from([4, 5]), st.integers(1, 65_535))
def test_what_the_client_writes_its_own_server_reads(
    size: int, name: str, retain: bool, version: int, packet_id: int
) -> None:
    size %= server_codec.MAX_PACKET_BYTES - 400
    topic = "t/" + name.replace("+", "").replace("#", "").replace("\0", "")
    hello = mqtt.connect(version, "id", 20, user="u", password="p", will_topic="w", will_payload=b"gone")
    packed = mqtt.properties("text/plain", 5, (("uid", "1"),)) if version == 5 else b""
    data = mqtt.publish(topic, b"x" * size, packet_id, retain=retain, packed=packed)
    parser = server_codec.Parser()
    connect, publish = list(parser.feed(hello + data))
    assert isinstance(connect, server_codec.Connect) and isinstance(publish, server_codec.Publish)
    assert (connect.version, connect.client_id, connect.user, connect.password) == (version, "id", "u", b"p")
    assert (publish.topic, len(publish.payload), publish.packet_id) == (topic, size, packet_id)
    assert publish.qos == 1


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_any_bytes_end_in_packets_or_in_the_one_error(data: bytes, version: int) -> None:
    parser = mqtt.Parser(version)
    try:
        for start in range(0, len(data), 17):
            list(parser.feed(data[start : start + 17]))
    except mqtt.PeerError:
        pass


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x20\xff\xff\xff\x7f",  # a CONNACK of 256 MiB
        b"\x20\xff\xff\xff\xff\x01",
        b"\x30\x05\x00\x01tab",  # a message that nobody asked for
        b"\x20\x01\x00",
        b"\x20\x05\x00\x00\x02\x99\x00",
        b"\x20\x05\x00\x00\x7f\x21\x00",
        b"\xd0\x01\x00",
        b"\x41\x02\x00\x01",
    ],
)
def test_a_broker_that_breaks_the_rules_is_found_out_at_once(hostile: bytes) -> None:
    with pytest.raises(mqtt.PeerError):
        list(mqtt.Parser(5).feed(hostile))
