"""EU863-870: the region's numbers as literal tables (RP002-1.0.4, section 2.4; ETSI EN 300 220-2)."""

JOIN_CHANNELS_HZ = (868100000, 868300000, 868500000)
COMMON_CHANNELS_HZ = (867100000, 867300000, 867500000, 867700000, 867900000)
MAX_CHANNELS = 16
FREQ_MIN_HZ = 863000000
FREQ_MAX_HZ = 870000000

# Spreading factor of DR0 .. DR5 at 125 kHz. DR6 (250 kHz) and DR7 (FSK) are not used.
SF = (12, 11, 10, 9, 8, 7)
MAX_DR = 5
# FRMPayload bytes of DR0 .. DR5 when FOpts is empty.
MAX_PAYLOAD = (51, 51, 51, 115, 242, 242)
MAX_RX1_OFFSET = 5

RX2_HZ = 869525000
RX2_DR = 0
RX1_DELAY_S = 1
JOIN_DELAY_S = 5

# 14 dBm ERP is the limit; each step of TXPower takes 2 dB off.
MAX_POWER_DBM = 14
MAX_POWER_INDEX = 7

# name, from Hz, below Hz, duty cycle in 1/10,000 of an hour.
SUB_BANDS = (
    ("K", 863000000, 865000000, 10),
    ("L", 865000000, 868000000, 100),
    ("M", 868000000, 868600000, 100),
    ("N", 868700000, 869200000, 10),
    ("P", 869400000, 869650000, 1000),
    ("R", 869700000, 870000000, 100),
)


def sub_band(freq_hz: int) -> int:
    """Index into SUB_BANDS, or -1 where nobody may send."""
    for index, band in enumerate(SUB_BANDS):
        if band[1] <= freq_hz < band[2]:
            return index
    return -1


def rx1_dr(uplink_dr: int, offset: int) -> int:
    """Data rate of RX1 (RP002, table of RX1DROffset)."""
    return max(uplink_dr - offset, 0)
