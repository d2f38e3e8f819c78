"""From the echoes of one measurement to a distance with its spread, or to a status that says why there is none."""

MAX_ECHOES = 15
NEEDED_ECHOES = 5
# Litter does not move by this much within one measurement: half of the echoes further off than this is no surface.
UNSTABLE_MM = 50
# Two things in the beam: a third of the echoes from each at least, and nothing between them over so wide a gap.
THIRD = 3
GAP_MM = 100
# So little above the blind zone it is as good as in it: drops on the sensor are there, and no litter that it can tell.
NEAR_MM = 30


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


def _parted(valid: "list[int]") -> bool:
    """Whether the echoes come from two places: a bag that hangs in the beam, and what lies behind it."""
    ordered = sorted(valid)
    least = (len(ordered) + THIRD - 1) // THIRD
    return any([ordered[at] - ordered[at - 1] > GAP_MM for at in range(least, len(ordered) - least + 1)])


def judge(echoes: "list[int]", blind_mm: int, max_mm: int, rail_ok: bool = True) -> Measurement:
    """Up to 15 echoes in mm (0: the sensor said that there was none) -> median and spread (median absolute deviation).

    blind_mm: at or under it the sensor cannot tell a distance; max_mm: over it neither. An empty list means
    that the sensor did not speak at all; `rail_ok` False: and that it had no power.
    """
    if not echoes:
        return Measurement("sensor_fault" if rail_ok else "rail_fault")
    echoes = echoes[:MAX_ECHOES]
    near_mm = blind_mm + NEAR_MM
    valid = [echo for echo in echoes if near_mm < echo <= max_mm]
    near = len([echo for echo in echoes if 0 < echo <= near_mm])
    if near >= NEEDED_ECHOES and near > len(valid):
        return Measurement("too_close", len(valid))
    if len(valid) < NEEDED_ECHOES:
        return Measurement("no_echo", len(valid))
    distance_mm = median(valid)
    if _parted(valid):
        return Measurement("obstructed", len(valid))
    spread_mm = median([abs(echo - distance_mm) for echo in valid])
    if spread_mm > UNSTABLE_MM:
        return Measurement("unstable", len(valid))
    return Measurement("ok", len(valid), distance_mm, spread_mm)
