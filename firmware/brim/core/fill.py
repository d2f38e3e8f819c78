"""From echoes to a distance with its spread, or to a status that says why there is none; from a distance to a fill."""

MAX_ECHOES = 15
NEEDED_ECHOES = 5
# Litter does not move by this much within one measurement: half of the echoes further off than this is no surface.
UNSTABLE_MM = 50


class Measurement:
    """`distance_mm` and `spread_mm` are None unless `status` carries a number; `echoes` counts the valid ones."""

    __slots__ = ("distance_mm", "echoes", "spread_mm", "status")

    def __init__(
        self, status: str, echoes: int = 0, distance_mm: "int | None" = None, spread_mm: "int | None" = None
    ) -> None:
        self.status = status
        self.echoes = echoes
        self.distance_mm = distance_mm
        self.spread_mm = spread_mm


def median(values: "list[int]") -> int:
    """The lower median of a non-empty list."""
    return sorted(values)[(len(values) - 1) // 2]


def judge(echoes: "list[int]", blind_mm: int, max_mm: int) -> Measurement:
    """Up to 15 echoes in mm (0: the sensor said that there was none) -> median and spread (median absolute deviation).

    blind_mm: at or under it the sensor cannot tell a distance; max_mm: over it neither. Few echoes or none
    are a target that is not there: some rangers are silent then.
    """
    echoes = echoes[:MAX_ECHOES]
    valid = [echo for echo in echoes if blind_mm < echo <= max_mm]
    near = len([echo for echo in echoes if 0 < echo <= blind_mm])
    if near >= NEEDED_ECHOES and near > len(valid):
        return Measurement("too_close", len(valid))
    if len(valid) < NEEDED_ECHOES:
        return Measurement("no_echo", len(valid))
    distance_mm = median(valid)
    spread_mm = median([abs(echo - distance_mm) for echo in valid])
    if spread_mm > UNSTABLE_MM:
        return Measurement("unstable", len(valid))
    return Measurement("ok", len(valid), distance_mm, spread_mm)


def fill_permille(distance_mm: int, empty_mm: int, full_mm: int) -> int:
    """Fill in 0..1000: 0 at or beyond empty_mm, 1000 at or nearer than full_mm.

    ValueError unless empty_mm > full_mm >= 0.
    """
    if not empty_mm > full_mm >= 0:
        raise ValueError("empty_mm must be more than full_mm")
    span_mm = empty_mm - full_mm
    return min(1000, max(0, ((empty_mm - distance_mm) * 1000 + span_mm // 2) // span_mm))
