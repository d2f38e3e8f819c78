"""The service console on the serial line: open for a moment after a cold boot, longer once somebody types."""

import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.console import Console
    from brim.core.hal import Device

FIRST_BYTE_MS = 3000
TYPING_MS = 60000
SLICE_MS = 10000  # the watchdog is fed at least this often
MAX_LINE_BYTES = 256
INTERRUPT = b"\x03"


def _wait(device: "Device", poller: "select.poll", window_ms: int) -> bool:
    """Whether a byte (or the end of the input) came within window_ms."""
    while window_ms > 0:
        device.feed()
        if poller.poll(min(SLICE_MS, window_ms)):
            return True
        window_ms -= SLICE_MS
    return False


def serve(device: "Device", first_byte_ms: int = FIRST_BYTE_MS) -> None:
    """Answer request lines until nobody types any more or the input ends.

    KeyboardInterrupt (Ctrl-C, also where the line delivers it as a byte) goes through: it leads to the REPL.
    """
    source = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    poller = select.poll()
    poller.register(sys.stdin, select.POLLIN)
    console: "Console | None" = None
    line = b""
    window_ms = first_byte_ms
    while _wait(device, poller, window_ms):
        char = source.read(1)
        if not char:
            return
        if char == INTERRUPT:
            raise KeyboardInterrupt
        window_ms = TYPING_MS
        if char not in (b"\r", b"\n"):
            # One more than may be, so that a line that is too long is seen to be so.
            line = line + char if len(line) <= MAX_LINE_BYTES else line
            continue
        if line.strip():
            if console is None:
                from brim.core.console import Console

                console = Console(device)
            for answer in console.handle(line):
                device.feed()
                print(answer)
        line = b""
        if console is not None and console.reboot_wanted:
            device.reboot()
