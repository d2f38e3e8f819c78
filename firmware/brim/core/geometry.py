"""From a distance to a fill. The gateway and the bin use this one file."""

MAX_POINTS = 8


def fill_permille(distance_mm: int, empty_mm: int, full_mm: int, volume: "tuple[int, ...]" = ()) -> int:
    """Fill in 0..1000: 0 at or beyond `empty_mm`, 1000 at or nearer than `full_mm`.

    `volume`: for a bin that is no prism, the volume in permille up to each of its equal parts of the height but the
    last, rising, from the bottom: (400,) is a bin whose lower half holds 40 %. Empty: volume goes with height.
    `empty_mm` is measured with the liner in: the liner counts as bottom.

    ValueError unless empty_mm > full_mm >= 0 and the volumes rise within 0..1000.
    """
    if not empty_mm > full_mm >= 0:
        raise ValueError("empty_mm must be more than full_mm")
    span_mm = empty_mm - full_mm
    height_mm = min(span_mm, max(0, empty_mm - distance_mm))
    if not volume:
        return (height_mm * 1000 + span_mm // 2) // span_mm
    check_volume(volume)
    points = (0,) + tuple(volume) + (1000,)
    parts = len(points) - 1
    part = min(parts - 1, height_mm * parts // span_mm)
    # Linear within a part: `into` of `span_mm` of it.
    into = height_mm * parts - part * span_mm
    return points[part] + ((points[part + 1] - points[part]) * into + span_mm // 2) // span_mm


def check_volume(volume: "tuple[int, ...]") -> None:
    """ValueError unless these are at most MAX_POINTS volumes that rise within 0..1000."""
    if len(volume) > MAX_POINTS:
        raise ValueError("at most 8 volumes")
    before = 0
    for permille in volume:
        if not before <= permille <= 1000:
            raise ValueError("volumes must rise within 0..1000")
        before = permille
