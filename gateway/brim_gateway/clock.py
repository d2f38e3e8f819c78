"""The wall clock, and whether it can be trusted: a cabinet has no battery behind its clock, and may have no network.

What must not happen by a wrong clock (readings removed by age, a bin told a wrong time) asks ``trusted()`` first.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

JUMP_US = 5_000_000
"""Between two looks the clock may be slewed by a few parts in ten thousand; this is no slewing."""
DISTRUST_AFTER_JUMP_US = 3_600_000_000
BEHIND_US = 60_000_000
_TIME_ERROR = 5
_TIMEX_BYTES = 512
"""More than `struct timex` has on any Linux."""


def wall_us() -> int:
    """UTC microseconds, as the machine believes."""
    return time.time_ns() // 1000


def boot_us() -> int:
    """Microseconds since boot, sleep included; nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def kernel_synchronised() -> bool:
    """Whether a time service has told the kernel that the clock is right (adjtimex(2), STA_UNSYNC)."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return bool(0 <= state != _TIME_ERROR)


class Clock:
    """``source``: "ntp" (the kernel must say that it is synchronised) or "trusted" (the operator vouches for it).

    ``look()`` is called every few seconds; ``newest_us``: the latest arrival in the journal, which lies in the past.
    """

    def __init__(
        self,
        source: str,
        newest_us: int = 0,
        *,
        wall: Callable[[], int] = wall_us,
        boot: Callable[[], int] = boot_us,
        synchronised: Callable[[], bool] = kernel_synchronised,
    ) -> None:
        self.now_us = wall
        self._source = source
        self._newest_us = newest_us
        self._boot = boot
        self._synchronised = synchronised
        self._offset_us = wall() - boot()
        self._jumped_at_us: int | None = None
        self._jump_us = 0
        self._why = ""
        self.look()

    def look(self) -> None:
        """Compare with the clock that nobody sets, and ask the kernel."""
        boot_us = self._boot()
        now_us = self.now_us()
        offset_us = now_us - boot_us
        if abs(offset_us - self._offset_us) > JUMP_US:
            self._jump_us, self._jumped_at_us = offset_us - self._offset_us, boot_us
        self._offset_us = offset_us
        self._why = self._doubt(now_us, boot_us)

    def _doubt(self, now_us: int, boot_us: int) -> str:
        if self._source != "trusted":
            if not self._synchronised():
                return "the kernel says that it is not synchronised"
        elif now_us < self._newest_us - BEHIND_US:
            return f"it is {(self._newest_us - now_us) // 1_000_000} s behind the newest reading"
        if self._jumped_at_us is not None and boot_us - self._jumped_at_us < DISTRUST_AFTER_JUMP_US:
            return f"it jumped by {self._jump_us / 1e6:+.0f} s within the last hour"
        return ""

    def trusted(self) -> bool:
        """As of the last look."""
        return not self._why

    def why_not(self) -> str:
        """In words; empty while it is trusted."""
        return self._why
