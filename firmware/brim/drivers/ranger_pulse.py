"""Rangers with a trigger and an echo pulse (HC-SR04, JSN-SR04T without a jumper): the pulse is as long as the sound
was under way."""

from brim.core.sound import pulse_mm
from brim.drivers.rangers import MAX_ECHOES, settled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The JSN-SR04T is unsteady with the 10 us of its data sheet.
TRIGGER_US = 20
# The echo of a JSN-SR04T falls after 60 ms when nothing came back.
ECHO_TIMEOUT_US = 65000
NO_TARGET_US = 38000  # 6.5 m: what lasts longer came from nowhere
# So that the last ping has died away.
BETWEEN_MS = 60
MAX_SILENT = 3
NEVER_BEGAN = -2  # of machine.time_pulse_us; NEVER_ENDED is -1


class RangerPulse:
    """`ping(trigger_us, timeout_us)` triggers and gives the length of the echo pulse in us: -2 if it never began,
    -1 if it never ended (machine.time_pulse_us)."""

    rail_ok = True

    def __init__(
        self,
        power: "Callable[[bool], None]",
        ping: "Callable[[int, int], int]",
        sleep_ms: "Callable[[int], None]",
        warm_up_ms: int,
    ) -> None:
        self._power = power
        self._ping = ping
        self._sleep_ms = sleep_ms
        self._warm_up_ms = warm_up_ms

    def echoes(self) -> "list[int]":
        """See rangers.Ranger; as in air of sound.ASSUMED_C."""
        echoes: "list[int]" = []
        silent = 0
        self._power(True)
        try:
            self._sleep_ms(self._warm_up_ms)
            while len(echoes) < MAX_ECHOES and silent < MAX_SILENT and not settled(echoes):
                pulse_us = self._ping(TRIGGER_US, ECHO_TIMEOUT_US)
                if pulse_us == NEVER_BEGAN:
                    silent += 1
                else:
                    echoes.append(pulse_mm(pulse_us) if 0 < pulse_us < NO_TARGET_US else 0)
                self._sleep_ms(BETWEEN_MS)
        finally:
            self._power(False)
        return echoes
