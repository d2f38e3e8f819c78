"""One line of the service console.

    @id verb arg ... *crc      a request; the CRC may be left out by a person
    =id ok {json} *crc         an answer; "left" > 0 in the object says that more lines with this id follow
    !id code hint *crc         a refusal

Printable ASCII, at most 256 bytes without the line end. `crc` is the CRC-8 (polynomial 0x07, start 0) of everything
before " *", as two hexadecimal digits.
"""

import json

from brim.wire.errors import WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE_BYTES = 256
MAX_ID = 8
MAX_WORD = 64
MAX_ARGS = 8


def crc8(data: bytes) -> int:
    """CRC-8, polynomial x^8+x^2+x+1, start 0 (SMBus PEC; check value of b"123456789" is 0xF4)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x107 if crc & 0x80 else crc << 1
    return crc


def _seal(text: str) -> str:
    line = f"{text} *{crc8(text.encode()):02x}"
    if len(line) > MAX_LINE_BYTES or not _printable(line):
        raise WireError("line too long or not printable ASCII")
    return line


def _printable(text: str) -> bool:
    return all(" " <= char <= "~" for char in text)


def _open(line: "bytes | str", need_crc: bool) -> str:
    """The text of a line without its CRC."""
    line = line[: MAX_LINE_BYTES + 3]
    # Decoded byte by byte, so that any bytes can be looked at.
    text = line if isinstance(line, str) else "".join([chr(byte) for byte in bytes(line)])
    text = text.rstrip("\r\n")
    if len(text) > MAX_LINE_BYTES:
        raise WireError("line too long")
    if not _printable(text):
        raise WireError("not printable ASCII")
    if len(text) > 4 and text[-4:-2] == " *":
        body = text[:-4]
        if f"{crc8(body.encode()):02x}" != text[-2:].lower():
            raise WireError("CRC")
        return body
    if need_crc:
        raise WireError("no CRC")
    return text


def _check_id(ident: str) -> str:
    if not 1 <= len(ident) <= MAX_ID or not all(c in "0123456789abcdefghijklmnopqrstuvwxyz" for c in ident.lower()):
        raise WireError("id")
    return ident


def encode_request(ident: str, verb: str, args: "list[str] | tuple[str, ...]" = ()) -> str:
    """The line of a request with its CRC, without a line end."""
    words = [verb] + list(args)
    for word in words:
        if not word or " " in word or word[0] == "*":
            raise WireError("a word is empty or has a space")
    return _seal(" ".join(["@" + _check_id(ident)] + words))


def decode_request(line: "bytes | str") -> "tuple[str, str, list[str]]":
    """(id, verb, args) of a request line; WireError for anything else."""
    words = _open(line, False).split()
    if len(words) < 2 or words[0][:1] != "@" or len(words) > 2 + MAX_ARGS:
        raise WireError("not a request")
    if any(len(word) > MAX_WORD for word in words):
        raise WireError("word too long")
    return _check_id(words[0][1:]), words[1], words[2:]


def encode_ok(ident: str, fields: "dict[str, Any]") -> str:
    """The line of an answer; WireError when it does not fit."""
    return _seal(f"={_check_id(ident)} ok {json.dumps(fields)}")


def encode_refusal(ident: str, code: str, hint: str) -> str:
    """The line of a refusal; the hint is cut to fit and cleaned of what is not printable ASCII."""
    hint = "".join([char if " " <= char <= "~" else "?" for char in hint[:160]])
    return _seal(f"!{_check_id(ident)} {code} {hint}")


def decode_answer(line: "bytes | str") -> "tuple[str, bool, str, dict[str, Any]]":
    """(id, ok, code, fields) of an answer or refusal; a refusal's hint is fields["hint"]. WireError for anything else.

    The CRC is required: log lines and answers share the wire.
    """
    words = _open(line, True).split(" ", 2)
    if len(words) != 3 or words[0][:1] not in ("=", "!"):
        raise WireError("not an answer")
    ident = _check_id(words[0][1:])
    if words[0][0] == "!":
        return ident, False, words[1], {"hint": words[2]}
    if words[1] != "ok":
        raise WireError("not an answer")
    try:
        fields = json.loads(words[2])
    except (ValueError, RuntimeError):  # CPython: RecursionError is a RuntimeError
        raise WireError("answer is not JSON") from None
    if not isinstance(fields, dict):
        raise WireError("answer is not an object")
    return ident, True, "ok", fields
