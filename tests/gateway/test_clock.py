"""A clock that cannot be trusted is not acted on, and is believed again when it has earned it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from brim_gateway.clock import DISTRUST_AFTER_JUMP_US, Clock, boot_us, kernel_synchronised, wall_us

START_US = 1_795_000_000_000_000


@dataclass
class Machine:
    """A wall clock and a time since boot that a test moves."""

    wall_us: int = START_US
    since_boot_us: int = 60_000_000
    synchronised: bool = True
    newest_us: int = START_US - 1
    clocks: list[Clock] = field(default_factory=list)

    def clock(self, source: str = "ntp") -> Clock:
        return Clock(
            source,
            self.newest_us,
            wall=lambda: self.wall_us,
            boot=lambda: self.since_boot_us,
            synchronised=lambda: self.synchronised,
        )

    def goes_on(self, us: int, jump_us: int = 0) -> None:
        self.since_boot_us += us
        self.wall_us += us + jump_us


def test_a_clock_is_trusted_when_the_kernel_vouches_for_it() -> None:
    machine = Machine(synchronised=False)
    clock = machine.clock()
    assert not clock.trusted() and "not synchronised" in clock.why_not()
    machine.synchronised = True
    machine.goes_on(5_000_000)
    clock.look()
    assert clock.trusted() and clock.why_not() == ""


@pytest.mark.parametrize("jump_us", [400 * 86_400_000_000, -400 * 86_400_000_000, 6_000_000, -6_000_000])
@pytest.mark.parametrize("source", ["ntp", "trusted"])
def test_a_jump_either_way_is_not_trusted_for_an_hour(jump_us: int, source: str) -> None:
    machine = Machine(newest_us=0)
    clock = machine.clock(source)
    assert clock.trusted()
    machine.goes_on(5_000_000, jump_us)
    clock.look()
    assert not clock.trusted() and f"{jump_us / 1e6:+.0f} s" in clock.why_not()
    machine.goes_on(DISTRUST_AFTER_JUMP_US - 1)
    clock.look()
    assert not clock.trusted()
    machine.goes_on(1)
    clock.look()
    assert clock.trusted()


def test_slewing_and_long_sleep_are_no_jump() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.goes_on(5_000_000, 2_500)
    clock.look()
    machine.goes_on(3 * 3_600_000_000)
    clock.look()
    assert clock.trusted()


def test_a_clock_that_nobody_checks_is_not_trusted_behind_the_newest_reading() -> None:
    machine = Machine(newest_us=START_US + 61_000_000)
    assert "61 s behind the newest reading" in machine.clock("trusted").why_not()
    assert machine.clock("ntp").trusted(), "where the kernel vouches, the reading's time was wrong"


def test_the_machine_itself_can_be_asked() -> None:
    assert kernel_synchronised() in (True, False)
    assert wall_us() > START_US - 365 * 86_400_000_000 and 0 < boot_us() < wall_us()
