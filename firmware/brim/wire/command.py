"""Commands to a bin (downlink, MQTT): a sequence of a type byte and a fixed body each.

A command is a tuple: its type, then the fields in the order of `COMMANDS`.
"""

from brim.wire.errors import WireError

ACK = 0x01
"""`(ACK, epoch, held_to, held)`: the gateway holds, or does not need, every seq <= held_to of that epoch and the seq
held_to + 2 + i for each bit i of held. The bin drops exactly these."""

# type -> (field, bytes) in order, big-endian
COMMANDS = {
    ACK: (("epoch", 2), ("held_to", 2), ("held", 2)),
}
MAX_COMMANDS_BYTES = 51  # what DR0..DR2 of EU868 carry


def encode_commands(commands: "list[tuple[int, ...]]") -> bytes:
    """The bytes of `commands`; WireError for an unknown type, a wrong field count or a value out of range."""
    data = b""
    for command in commands:
        table = COMMANDS.get(command[0])
        if table is None or len(command) != len(table) + 1:
            raise WireError("unknown command")
        data += bytes((command[0],))
        for i in range(len(table)):
            width = table[i][1]
            if not 0 <= command[i + 1] < 1 << (8 * width):
                raise WireError(f"{table[i][0]} out of range")
            data += command[i + 1].to_bytes(width, "big")
    if len(data) > MAX_COMMANDS_BYTES:
        raise WireError("too many commands")
    return data


def decode_commands(data: bytes) -> "list[tuple[int, ...]]":
    """The commands in `data` (may be none); WireError for anything else."""
    if len(data) > MAX_COMMANDS_BYTES:
        raise WireError("commands too long")
    commands = []
    at = 0
    while at < len(data):
        kind = data[at]
        table = COMMANDS.get(kind)
        if table is None:
            raise WireError("unknown command")
        at += 1
        fields = [kind]
        for _, width in table:
            if at + width > len(data):
                raise WireError("command cut short")
            fields.append(int.from_bytes(data[at : at + width], "big"))
            at += width
        commands.append(tuple(fields))
    return commands


def acknowledges(command: "tuple[int, ...]", epoch: int, seq: int) -> bool:
    """Whether an ACK command covers the reading `epoch:seq`."""
    if command[0] != ACK or command[1] != epoch:
        return False
    held_to = command[2]
    bit = seq - held_to - 2
    return seq <= held_to or (0 <= bit < 16 and bool(command[3] >> bit & 1))
