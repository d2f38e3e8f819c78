"""Time on air of a LoRa frame (Semtech AN1200.13; SX1262 data sheet, section 6.1.4), in whole microseconds."""


def symbol_us(sf: int, bw_hz: int = 125000) -> int:
    """One symbol. Exact for 125, 250 and 500 kHz."""
    return (1000000 << sf) // bw_hz


def needs_ldro(sf: int, bw_hz: int = 125000) -> bool:
    """Low data rate optimisation is due from symbols of 16 ms (SX1262 data sheet, section 6.1.1.4)."""
    return symbol_us(sf, bw_hz) >= 16000


def airtime_us(
    length: int,
    sf: int,
    bw_hz: int = 125000,
    crc: bool = True,
    preamble: int = 8,
    coding: int = 1,
    header: bool = True,
    ldro: "bool | None" = None,
) -> int:
    """Microseconds of `length` bytes; `coding` 1..4 stands for 4/5..4/8. Downlinks of LoRaWAN carry no CRC."""
    bits = 8 * length - 4 * sf + 28 + (16 if crc else 0) - (0 if header else 20)
    if ldro is None:
        ldro = needs_ldro(sf, bw_hz)
    per_block = 4 * (sf - 2 if ldro else sf)
    symbols = 8
    if bits > 0:
        symbols += (bits + per_block - 1) // per_block * (coding + 4)
    # A quarter symbol ends the preamble (4.25), hence everything times four.
    return (4 * (preamble + symbols) + 17) * symbol_us(sf, bw_hz) // 4
