"""One burst of echoes, judged: for a wake and for the technician's console."""

from brim.core.fill import Measurement, judge
from brim.drivers.rangers import BLIND_MM, COMPENSATES, MAX_MM, MODELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.hal import Device


def measure(device: "Device", model: int, celsius: "int | None") -> Measurement:
    """With the ranger of MODELS that the bin has; in true mm where that does not know how warm it is, if `celsius`
    is known."""
    row = MODELS[model]
    try:
        ranger = device.ranger(model)
        echoes = ranger.echoes()
    except Exception:
        return Measurement("sensor_fault")
    measured = judge(echoes, row[BLIND_MM], row[MAX_MM], ranger.rail_ok)
    if measured.distance_mm is not None and not row[COMPENSATES] and celsius is not None:
        from brim.core.sound import corrected_mm

        measured.distance_mm = corrected_mm(measured.distance_mm, celsius)
    return measured
