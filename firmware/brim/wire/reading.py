"""A reading, its statuses and its events."""

STATUSES = (
    "ok",
    "no_echo",
    "too_close",
    "unstable",
    "stuck",
    "obstructed",
    "jumped",
    "sensor_fault",
    "rail_fault",
)
# The statuses whose distance is a number. Every other status is an absence and carries none.
NUMBER_STATUSES = ("ok", "jumped")

# Bit i of `events`.
EVENTS = ("full", "overfull", "emptied", "fire", "tilted", "moved", "lid_open", "battery_low", "tamper")


class Reading:
    """One reading; None means that it was not measured or not sent.

    `age_s` is the time from the measurement to the transmission by the bin's own clock, which drifts.
    `distance_mm` and `spread_mm` are numbers only where the status is in NUMBER_STATUSES. `events` is a bitmap
    (EVENTS). An earlier reading of a report comes without echoes, spread, temperature, battery, events and config.
    """

    __slots__ = (
        "age_s",
        "battery_mv",
        "config_version",
        "distance_mm",
        "echoes",
        "epoch",
        "events",
        "seq",
        "spread_mm",
        "status",
        "temperature_c",
    )

    def __init__(
        self,
        epoch: int,
        seq: int,
        status: str,
        distance_mm: "int | None" = None,
        spread_mm: "int | None" = None,
        echoes: "int | None" = None,
        age_s: int = 0,
        temperature_c: "int | None" = None,
        battery_mv: "int | None" = None,
        events: "int | None" = None,
        config_version: "int | None" = None,
    ) -> None:
        self.epoch = epoch
        self.seq = seq
        self.status = status
        self.distance_mm = distance_mm
        self.spread_mm = spread_mm
        self.echoes = echoes
        self.age_s = age_s
        self.temperature_c = temperature_c
        self.battery_mv = battery_mv
        self.events = events
        self.config_version = config_version

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reading):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)
