"""Commands mean one thing on both ends."""

from brim.wire.command import ACK, acknowledges, decode_commands, encode_commands
from brim.wire.errors import WireError


def refuses(call, value):
    try:
        call(value)
    except WireError:
        return True
    return False


def test_an_acknowledgement_is_seven_bytes():
    data = encode_commands([(ACK, 3, 1000, 0b101)])
    assert data == b"\x01\x00\x03\x03\xe8\x00\x05"
    assert decode_commands(data) == [(ACK, 3, 1000, 0b101)]


def test_commands_follow_each_other():
    two = [(ACK, 3, 1000, 0), (ACK, 4, 2, 0xFFFF)]
    assert decode_commands(encode_commands(two)) == two
    assert decode_commands(b"") == []


def test_an_acknowledgement_covers_exactly_what_it_says():
    ack = (ACK, 3, 10, 0b1000000000000001)
    held = [seq for seq in range(1, 40) if acknowledges(ack, 3, seq)]
    assert held == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 27]
    assert not acknowledges(ack, 2, 5)


def test_anything_else_is_refused():
    assert refuses(decode_commands, b"\x00")
    assert refuses(decode_commands, b"\x01\x00\x03\x03\xe8\x00")
    assert refuses(decode_commands, b"\x01\x00\x03\x03\xe8\x00\x05\x01")
    assert refuses(decode_commands, b"\x01\x00\x03\x03\xe8\x00\x05" * 8)
    assert refuses(encode_commands, [(ACK, 3, 1000)])
    assert refuses(encode_commands, [(2, 3, 1000, 0)])
    assert refuses(encode_commands, [(ACK, 3, 65536, 0)])
