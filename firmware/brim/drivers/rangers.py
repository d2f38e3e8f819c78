"""The rangers a bin may have: one row each, chosen by the setting `ranger`. Values of the makers' data sheets; the
temperatures of the JSN-SR04T and HC-SR04 are those of resellers.

An echo is a distance in mm, 0 where the sensor said that nothing came back. A ranger of `boards` has `echoes()`: up to
MAX_ECHOES of them, fewer once they agree; [] if the sensor does not speak.
"""

# Ways of speaking.
FRAMES = 0
MAXBOTIX = 1
PULSE = 2

# A row each: way of speaking, blind up to mm, at most mm, from power to the first echo ms, whether it measures
# the temperature itself, rated from C to C.
MODELS = (
    (FRAMES, 30, 4500, 300, 1, -15, 60),  # A02YYUW, DYP-A02, ME007YS
    (MAXBOTIX, 300, 4999, 250, 1, -40, 65),  # HRXL-MaxSonar-WR
    (FRAMES, 230, 6000, 300, 0, -20, 70),  # JSN-SR04T in mode 2
    (PULSE, 230, 6000, 100, 0, -20, 70),  # JSN-SR04T
    (PULSE, 20, 4000, 100, 0, -15, 70),  # HC-SR04
)
KIND = 0
BLIND_MM = 1
MAX_MM = 2
WARM_UP_MS = 3
COMPENSATES = 4
LEAST_C = 5
MOST_C = 6

MAX_ECHOES = 15
AGREEING = 5
AGREE_MM = 10


def settled(echoes: "list[int]") -> bool:
    """Whether the last five echoes agree, so that more would tell nothing new."""
    last = echoes[-AGREEING:]
    return len(last) == AGREEING and max(last) - min(last) <= AGREE_MM
