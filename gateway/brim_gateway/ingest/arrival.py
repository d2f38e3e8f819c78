"""From what a decoder gave to what the journal keeps: place, time and fill. Pure."""

from __future__ import annotations

from brim.core.geometry import fill_permille

from brim_gateway.model import BinRecord, Measured, Radio, Reading

AGE_DRIFT_DIVISOR = 10
"""A bin's clock in deep sleep may be a tenth off, so an age is uncertain by a tenth of itself…"""
LINK_UNCERTAINTY_S = 2
"""…and by the time that the report was under way."""


GATEWAY, UNSYNCHRONISED, CONCENTRATOR = "gateway", "gateway-unsynchronised", "concentrator"
"""Whose clock the time of a reading is by."""


def to_reading(
    measured: Measured,
    record: BinRecord,
    *,
    received_us: int,
    heard_us: int | None = None,
    time_source: str = GATEWAY,
    epoch: int = 0,
    seq: int | None = None,
    radio: Radio | None = None,
) -> Reading:
    """The reading of ``record``'s bin. ``heard_us``: when the report reached us by the trusted clock, if not
    ``received_us``. ``epoch`` and ``seq`` stand in where the device gave none."""
    distance_mm = measured.distance_mm
    return Reading(
        dev=record.dev,
        bin=record.bin,
        epoch=epoch if measured.epoch is None else measured.epoch,
        seq=seq if measured.seq is None else measured.seq,
        status=measured.status,
        time_us=(received_us if heard_us is None else heard_us) - measured.age_s * 1_000_000,
        received_us=received_us,
        time_source=time_source,
        time_uncertainty_s=LINK_UNCERTAINTY_S + measured.age_s // AGE_DRIFT_DIVISOR,
        distance_mm=distance_mm,
        spread_mm=measured.spread_mm,
        echoes=measured.echoes,
        temperature_c=measured.temperature_c,
        battery_mv=measured.battery_mv,
        events=measured.events,
        config_version=measured.config_version,
        fill_pct=None
        if distance_mm is None
        else (fill_permille(distance_mm, record.empty_mm, record.full_mm, record.shape) + 5) // 10,
        link=record.link,
        radio=radio,
    )
