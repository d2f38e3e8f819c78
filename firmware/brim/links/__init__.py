"""The ways out of a bin. Each link has the same face:

    open(deadline_ms) -> None | str        join or connect; a fault's name, or None when it may send
    exchange(payload, deadline_ms) -> Exchange
    state() -> bytes                       what the next wake needs, at most 300 bytes, kept in RTC memory
    close()                                idempotent, never raises

`deadline_ms` is a point on the clock's `ticks_ms`. A fault is data: no method raises for what a peer or a chip does.
"""


class Exchange:
    """What one payload led to. `held`: the other end itself said that it holds the payload (PUBACK); on LoRaWAN
    always False, there an acknowledgement is among `commands` (payloads of PORT_COMMAND)."""

    __slots__ = ("commands", "fault", "held", "sent")

    def __init__(
        self, sent: bool, held: bool = False, commands: "list[bytes] | None" = None, fault: "str | None" = None
    ) -> None:
        self.sent = sent
        self.held = held
        self.commands = commands or []
        self.fault = fault
