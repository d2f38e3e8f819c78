"""When a measurement becomes a reading."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.core.fill import Measurement
    from brim.core.rtc_state import Last


def decide(
    last: "Last", measured: "Measurement", events: int, now_s: int, settings: "dict[str, int]", unsure: bool = False
) -> "str | None":
    """Why this measurement is a reading: boot, event, status, change or heartbeat; None when it is not.

    `unsure`: it is about to be looked at again, so what is not ok is no news yet.
    """
    if last.status is None:
        return "boot"
    if events != last.events:
        return "event"
    news = not unsure or measured.status == "ok"
    if news and measured.status != last.status:
        return "status"
    if news and measured.distance_mm is not None and last.distance_mm is not None:
        change_mm = abs(measured.distance_mm - last.distance_mm)
        if change_mm >= settings["delta_mm"]:
            return "change"
    # Half a step early rather than half a step late; a clock that went back is no reason for silence.
    since_s = now_s - last.at_s
    if since_s < 0 or since_s + settings["sense_s"] // 2 >= settings["heartbeat_s"]:
        return "heartbeat"
    return None
