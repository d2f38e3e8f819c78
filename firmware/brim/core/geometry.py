"""From a distance to a fill. The gateway and the bin use this one file."""

PRISM = 0
PARTS = 4


def fill_permille(distance_mm: int, empty_mm: int, full_mm: int, shape: int = PRISM) -> int:
    """Fill in 0..1000: 0 at or beyond `empty_mm`, 1000 at or nearer than `full_mm`.

    `shape`: for a bin that is no prism, what its lower quarter, half and three quarters of the height hold, three
    digits of permille each: 150 350 620 (150350620) is a bin that widens upwards. PRISM: volume goes with height.
    `empty_mm` is measured with the liner in: the liner counts as bottom.

    ValueError unless empty_mm > full_mm >= 0 and the shape rises.
    """
    if not empty_mm > full_mm >= 0:
        raise ValueError("empty_mm must be more than full_mm")
    span_mm = empty_mm - full_mm
    height_mm = min(span_mm, max(0, empty_mm - distance_mm))
    if shape == PRISM:
        return (height_mm * 1000 + span_mm // 2) // span_mm
    points = volumes(shape)
    part = min(PARTS - 1, height_mm * PARTS // span_mm)
    # Linear within a part: `into` of `span_mm` of it.
    into = height_mm * PARTS - part * span_mm
    return points[part] + ((points[part + 1] - points[part]) * into + span_mm // 2) // span_mm


def volumes(shape: int) -> "tuple[int, ...]":
    """The volume in permille at the bottom, each quarter of the height and the top; ValueError unless they rise."""
    points = (0, shape // 1000000, shape // 1000 % 1000, shape % 1000, 1000)
    for part in range(PARTS):
        if points[part] > points[part + 1]:
            raise ValueError("shape: three rising volumes of three digits each, in permille")
    return points
