"""A console line is understood completely or not at all."""

from brim.wire.console_line import crc8, decode_answer, decode_request, encode_ok, encode_refusal, encode_request
from brim.wire.errors import WireError


def refuses(call, *args):
    try:
        call(*args)
    except WireError:
        return True
    return False


def test_the_crc_is_the_one_of_the_smbus():
    assert crc8(b"123456789") == 0xF4


def test_a_request_comes_back():
    line = encode_request("7", "live", ["3"])
    assert line.startswith("@7 live 3 *")
    assert decode_request(line.encode() + b"\r\n") == ("7", "live", ["3"])


def test_a_person_may_type_it_without_the_crc():
    assert decode_request(b"@a who\n") == ("a", "who", [])
    assert decode_request("@a set  sense_s 900") == ("a", "set", ["sense_s", "900"])


def test_a_wrong_crc_is_refused():
    line = encode_request("7", "reboot")
    assert refuses(decode_request, line.replace("reboot", "rebood"))


def test_answers_come_back():
    ident, ok, code, fields = decode_answer(encode_ok("7", {"dev": "0011", "left": 0}))
    assert (ident, ok, code, fields) == ("7", True, "ok", {"dev": "0011", "left": 0})
    ident, ok, code, fields = decode_answer(encode_refusal("7", "usage", "live N\x1b[31m"))
    assert (ident, ok, code) == ("7", False, "usage")
    assert fields == {"hint": "live N?[31m"}


def test_an_answer_without_crc_is_a_log_line():
    assert refuses(decode_answer, '=7 ok {"dev": "0011"}')


def test_every_line_is_bounded_and_printable():
    assert refuses(encode_ok, "7", {"x": "y" * 260})
    assert len(encode_refusal("7", "usage", "z" * 1000)) <= 256
    assert refuses(decode_request, b"@a who " + b"x" * 300)
    assert refuses(decode_request, b"@a who \xff")
    assert refuses(decode_request, b"@a who \x1b[0m")
    assert refuses(decode_request, b"")
    assert refuses(decode_request, b"who")
    assert refuses(decode_request, b"@a " + b"x" * 65)
    assert refuses(decode_request, b"@a who" + b" x" * 20)
    assert refuses(decode_request, b"@12345678901 who")
    assert refuses(encode_request, "7", "set", ["a b"])
