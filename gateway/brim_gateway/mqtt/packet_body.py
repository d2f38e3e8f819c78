"""The inside of an MQTT packet: numbers, texts and properties, each step bounded by the packet's end. Pure."""

from __future__ import annotations

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82
"""Reason codes of MQTT 5, 2.4."""

# Property identifier -> kind (MQTT 5, 2.2.2.2): 1, 2, 4 bytes; v variable integer; s string; b binary; p string pair.
_PROPERTIES = {
    0x01: "1", 0x02: "4", 0x03: "s", 0x08: "s", 0x09: "b", 0x0B: "v", 0x11: "4", 0x12: "s", 0x13: "2", 0x15: "s",
    0x16: "b", 0x17: "1", 0x18: "4", 0x19: "1", 0x1A: "s", 0x1C: "s", 0x1F: "s", 0x21: "2", 0x22: "2", 0x23: "2",
    0x24: "1", 0x25: "1", 0x26: "p", 0x27: "4", 0x28: "1", 0x29: "1", 0x2A: "1",
}  # fmt: skip
TOPIC_ALIAS, SUBSCRIPTION_ID, USER_PROPERTY, AUTH_METHOD = 0x23, 0x0B, 0x26, 0x15
_MAY_REPEAT = (SUBSCRIPTION_ID, USER_PROPERTY)
_MAX_PROPERTIES = 32


class MqttError(ValueError):
    """The peer broke the protocol. ``code``: the reason of MQTT 5 for it."""

    def __init__(self, text: str, code: int = MALFORMED) -> None:
        super().__init__(text)
        self.code = code


class Body:
    """A cursor over one packet's body; every step is bounded by its end."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.end = len(data)

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > self.end:
            raise MqttError("packet cut short")
        return self.data[start : self.at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def string(self) -> str:
        """UTF-8 without U+0000 (1.5.4)."""
        try:
            text = self.binary().decode("utf-8")
        except UnicodeDecodeError:
            raise MqttError("text is not UTF-8") from None
        if "\0" in text:
            raise MqttError("text with U+0000")
        return text

    def varint(self) -> int:
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise MqttError("variable integer too long")

    def properties(self) -> set[int]:
        """The identifiers of the properties here; their values are checked for form and dropped."""
        length = self.varint()
        stop = self.at + length
        if stop > self.end:
            raise MqttError("properties cut short")
        seen: set[int] = set()
        count = 0
        while self.at < stop:
            kind_id = self.varint()
            kind = _PROPERTIES.get(kind_id)
            count += 1
            if kind is None or count > _MAX_PROPERTIES:
                raise MqttError("unknown property, or too many")
            if kind_id in seen and kind_id not in _MAY_REPEAT:
                raise MqttError("property twice", PROTOCOL_ERROR)
            seen.add(kind_id)
            if kind in "124":
                self.take(int(kind))
            elif kind == "v":
                self.varint()
            elif kind == "b":
                self.binary()
            else:
                self.string()
                if kind == "p":
                    self.string()
        if self.at != stop:
            raise MqttError("properties longer than said")
        return seen

    def finish(self) -> None:
        if self.at != self.end:
            raise MqttError("bytes after the end of the packet")
