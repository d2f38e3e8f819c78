"""The rangers a bin may have: one row each, chosen by the setting `ranger`. Values of the makers' data sheets; the
temperatures of the JSN-SR04T and HC-SR04 are those of resellers.

An echo is a distance in mm, 0 where the sensor said that nothing came back.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Ranger(Protocol):
        """`echoes()`: up to MAX_ECHOES, fewer once they agree; [] if the sensor does not speak."""

        def echoes(self) -> "list[int]": ...


FRAMES = 0
MAXBOTIX = 1
PULSE = 2

# name, way of speaking, blind up to mm, at most mm, from power to the first echo ms,
# whether it measures the temperature itself, rated from C to C
MODELS = (
    ("a02yyuw", FRAMES, 30, 4500, 300, True, -15, 60),
    ("hrxl-maxsonar", MAXBOTIX, 300, 4999, 250, True, -40, 65),
    ("jsn-sr04t-uart", FRAMES, 230, 6000, 300, False, -20, 70),
    ("jsn-sr04t", PULSE, 230, 6000, 100, False, -20, 70),
    ("hc-sr04", PULSE, 20, 4000, 100, False, -15, 70),
)
# Columns.
NAME = 0
KIND = 1
BLIND_MM = 2
MAX_MM = 3
WARM_UP_MS = 4
COMPENSATES = 5
LEAST_C = 6
MOST_C = 7

MAX_ECHOES = 15
AGREEING = 5
AGREE_MM = 10


def settled(echoes: "list[int]") -> bool:
    """Whether the last five echoes agree, so that more would tell nothing new."""
    last = echoes[-AGREEING:]
    return len(last) == AGREEING and max(last) - min(last) <= AGREE_MM
