"""Adaptive data rate: which rate, power and number of repeats suit a link. Pure arithmetic on what was heard.

The scheme is the common one (Semtech's recommendation of 2016): the best SNR of the last uplinks, less what the rate
needs, less a margin for fading, in steps of 3 dB; first the rate goes up, then the power down.
"""

from __future__ import annotations

from brim.lorawan.eu868 import MAX_DR, MAX_POWER_INDEX

HISTORY = 20
MARGIN_DB = 10
STEP_DB = 3
MAX_NB_TRANS = 3
# Of DR0 .. DR5. A repeat at SF12 takes the air of 24 frames at SF7; where frames collide, more of them lose more.
NB_TRANS_AT = (1, 1, 2, 3, 3, 3)

# What a concentrator needs to demodulate DR0 .. DR5, in dB (SX1301 data sheet, table of LoRa sensitivities).
REQUIRED_SNR_DB = (-20.0, -17.5, -15.0, -12.5, -10.0, -7.5)

# Loss below so many percent: the next NbTrans where 1, 2 or 3 is now.
_NB_TRANS = ((5, (1, 1, 2)), (10, (1, 2, 3)), (30, (2, 3, 3)), (101, (3, 3, 3)))


def steps(best_snr_db: float, dr: int, margin_db: float = MARGIN_DB) -> int:
    """Whole steps of 3 dB that the link has to spare (negative: lacks)."""
    return int((best_snr_db - REQUIRED_SNR_DB[dr] - margin_db) / STEP_DB)


def rate_and_power(
    spare: int, dr: int, power: int, max_dr: int = MAX_DR, max_power: int = MAX_POWER_INDEX
) -> tuple[int, int]:
    """(data rate, power index) that use `spare` steps up. A lack raises the power only: the device itself goes to a
    slower rate when it is heard no more (LoRaWAN 1.0.4, section 4.3.1.1)."""
    dr = min(dr, max_dr)
    if spare < 0:
        return dr, max(power + spare, 0)
    faster = min(spare, max_dr - dr)
    return dr + faster, max(power, min(power + spare - faster, max_power))


def repeats(loss_percent: float, nb_trans: int) -> int:
    """The next NbTrans, 1 to 3."""
    column = min(max(nb_trans, 1), MAX_NB_TRANS) - 1
    return next(row[column] for below, row in _NB_TRANS if loss_percent < below)
