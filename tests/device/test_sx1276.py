"""The SX1276 driver against a chip of registers, on a clock of its own."""

from brim.core.faults import RadioFault
from brim.drivers.sx1276 import SX1276
from brim.lorawan.airtime import airtime_us, symbol_us

TICKS = 1 << 30


class World:
    """Microseconds that pass only in waits, a little in every call, and what is in the air."""

    def __init__(self):
        self.now_us = TICKS - 3000000
        self.calls = 0
        self.frames = []

    def call(self):
        self.calls += 1
        self.now_us += 20

    def ticks_us(self):
        self.call()
        return self.now_us % TICKS

    def sleep_ms(self, ms):
        self.call()
        self.now_us += ms * 1000


class Pin:
    def __init__(self, world, write):
        self.world, self.write = world, write

    def value(self, level):
        self.world.call()
        self.write(level)


class Chip:
    """Registers as of the data sheet, table 41: two pages, the modes, the FIFO, flags and DIO0 in world time."""

    def __init__(self, world):
        self.world = world
        self.absent = self.deaf = self.never_calibrated = False
        self.selected = False
        self.transmitted = []
        self.windows = []
        self.reset()

    def reset(self):
        self.mode = 0x09
        self.registers = {0x42: 0x12, 0x31: 0xC3, 0x33: 0x27, 0x37: 0x0A, 0x39: 0x12, 0x4D: 0x84, 0x12: 0}
        self.fsk = {0x3B: 0x82}
        self.fifo = bytearray(256)
        self.calibrated_until = None
        self.calibrated_hz = 0
        self.event = None

    def pins(self, boost=True, tcxo=False):
        return (
            self,
            Pin(self.world, self.select),
            Pin(self.world, lambda level: None if level else self.reset()),
            self.wait_dio0,
            self.world,
            boost,
            tcxo,
        )

    def select(self, level):
        self.selected = not level

    def write_readinto(self, out, into):
        self.world.call()
        assert self.selected
        sent = bytes(out)
        if self.absent:
            into[:] = b"\x00" * len(sent)
            return
        self.settle()
        address = sent[0] & 0x7F
        for i in range(1, len(sent)):
            if sent[0] & 0x80:
                self.set(address, sent[i])
            else:
                into[i] = self.get(address)
            address += 1 if address else 0

    def lora(self):
        return self.mode & 0x80

    def get(self, address):
        if address == 0:
            value = self.fifo[self.registers[0x0D]]
            self.registers[0x0D] = (self.registers[0x0D] + 1) & 255
            return value
        if address == 1:
            return self.mode
        if not self.lora() and address == 0x3B:
            running = self.never_calibrated or (
                self.calibrated_until is not None and self.world.now_us < self.calibrated_until
            )
            return self.fsk[0x3B] & ~0x60 | (0x20 if running else 0)
        return self.registers.get(address, 0)

    def set(self, address, value):
        if address == 0:
            assert self.lora() and self.mode & 7 == 1, "the FIFO is open in standby only"
            self.fifo[self.registers[0x0D]] = value
            self.registers[0x0D] = (self.registers[0x0D] + 1) & 255
        elif address == 1:
            self.change(value)
        elif address == 0x12:
            self.registers[0x12] &= ~value
        elif not self.lora() and address == 0x3B:
            self.fsk[0x3B] = value
            if value & 0x40:
                self.calibrated_until = self.world.now_us + 8000
                self.calibrated_hz = self.hz()
        elif address == 0x4B:
            assert self.mode & 7 == 0, "the oscillator is chosen in sleep"
            self.registers[address] = value
        else:
            self.registers[address] = value

    def change(self, value):
        if value & 0x80 != self.mode & 0x80:
            assert self.mode & 7 == 0 and value & 7 == 0, "the page changes in sleep only"
        self.mode = value
        self.event = None
        if value & 7 == 3:
            self.transmit()
        elif value & 7 == 6:
            self.listen()

    def hz(self):
        steps = self.registers[6] << 16 | self.registers[7] << 8 | self.registers[8]
        return (steps * 32000000 + (1 << 18)) >> 19

    def sf(self):
        return self.registers[0x1E] >> 4

    def right(self):
        """Set for a public network at 125 kHz, errata included."""
        r = self.registers
        assert r[0x1D] == 0x72 and r[0x39] == 0x34 and r[0x31] == 0x43 and (r[0x2F], r[0x30]) == (0x40, 0)
        assert bool(r[0x26] & 8) == (self.sf() >= 11) and (r[0x20], r[0x21]) == (0, 8)

    def transmit(self):
        self.right()
        r = self.registers
        assert (r[0x33], r[0x3B]) == (0x27, 0x1D) and r[0x1E] & 4 and r[0x40] >> 6 == 1
        phy = bytes(self.fifo[r[0x0E] : r[0x0E] + r[0x22]])
        end_us = self.world.now_us + airtime_us(len(phy), self.sf())
        if not self.deaf:
            self.event = end_us, 0x08
        self.transmitted.append((end_us, self.hz(), self.sf(), phy, r[0x09]))

    def listen(self):
        self.right()
        r, sf, now = self.registers, self.sf(), self.world.now_us
        symbols = (r[0x1E] & 3) << 8 | r[0x1F]
        assert 4 <= symbols <= 1023 and r[0x40] >> 6 == 0
        end_us = now + symbols * symbol_us(sf)
        self.windows.append((now, end_us, self.hz(), sf))
        self.event = end_us, 0x80
        for at_us, hz, frame_sf, phy, flags in self.world.frames:
            enough = at_us + 8 * symbol_us(sf) - max(now, at_us) >= 6 * symbol_us(sf)
            inverted = (r[0x33], r[0x3B]) == (0x67, 0x19)
            if abs(hz - self.hz()) > 100 or frame_sf != sf or not enough or not inverted:
                continue
            if at_us + 4 * symbol_us(sf) <= end_us:
                self.fifo[: len(phy)] = phy
                r[0x10], r[0x13], r[0x19], r[0x1A] = 0, len(phy), 0xEA, 60
                self.event = at_us + airtime_us(len(phy), sf, crc=False), flags

    def settle(self):
        if self.event is not None and self.world.now_us >= self.event[0]:
            self.registers[0x12] |= self.event[1]
            self.event = None
            self.mode = self.mode & 0xF8 | 1

    def dio0(self):
        self.settle()
        return self.registers[0x12] & (0x08 if self.registers[0x40] >> 6 else 0x40)

    def wait_dio0(self, timeout_ms):
        self.world.call()
        limit = self.world.now_us + timeout_ms * 1000
        if self.event is not None and self.event[0] <= limit and self.event[1] & 0x48:
            self.world.now_us = max(self.world.now_us, self.event[0])
        elif not self.dio0():
            self.world.now_us = limit
        return bool(self.dio0())


def radio(chip, **kinds):
    made = SX1276(*chip.pins(**kinds))
    made.start()
    return made


def fault_of(call, *args):
    try:
        call(*args)
    except RadioFault as fault:
        return str(fault)
    return None


def test_the_chip_is_calibrated_in_its_band_and_set_for_lorawan():
    chip = Chip(World())
    radio(chip)
    assert chip.mode == 0x81 and chip.calibrated_hz == 868000000
    assert chip.registers[0x39] == 0x34 and chip.registers[0x4D] == 0x84 and 0x4B not in chip.registers
    chip = Chip(World())
    radio(chip, tcxo=True)
    assert chip.registers[0x4B] & 0x10


def test_an_uplink_goes_out_as_the_region_wants_it():
    chip = Chip(World())
    chip_radio = radio(chip)
    end_us = chip_radio.transmit(868300000, 12, 14, b"x" * 23)
    done_us, hz, sf, phy, power = chip.transmitted[0]
    assert abs(hz - 868300000) < 31 and sf == 12 and phy == b"x" * 23 and power == 0x80 | 12
    assert 0 <= (end_us - done_us) % TICKS < 100
    chip_radio.transmit(867100000, 7, 0, b"y")
    assert chip.transmitted[1][4] == 0x80, "2 dBm is the least of PA_BOOST"
    other = Chip(World())
    radio(other, boost=False).transmit(868300000, 7, 14, b"z")
    assert other.transmitted[0][4] == 0x7E


def test_the_longest_frame_fits():
    chip = Chip(World())
    radio(chip).transmit(868100000, 7, 14, bytes(range(255)))
    assert chip.transmitted[0][3] == bytes(range(255))


def test_a_downlink_is_heard_with_inverted_iq_and_an_uplink_after_it_is_not_inverted():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.transmit(868300000, 7, 14, b"x")
    chip.world.frames.append((chip.world.now_us + 15000, 868300000, 7, b"down", 0x40))
    chip_radio.prepare(868300000, 7, 40)
    assert chip_radio.receive() == (b"down", -6, -103)
    chip_radio.prepare(868300000, 7, 40)
    assert chip_radio.receive() is None
    chip_radio.transmit(868300000, 7, 14, b"y")
    assert len(chip.transmitted) == 2


def test_a_long_frame_is_waited_for_once_its_preamble_was_found():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.prepare(869525000, 12, 8)
    chip.world.frames.append((chip.world.now_us + 1000, 869525000, 12, b"d" * 51, 0x40))
    assert chip_radio.receive()[0] == b"d" * 51


def test_a_window_without_a_frame_ends_when_its_symbols_are_over():
    for sf in (7, 12):
        for symbols, set_to in ((1, 4), (40, 40), (300, 300), (5000, 1023)):
            chip = Chip(World())
            chip_radio = radio(chip)
            chip_radio.prepare(868100000, sf, symbols)
            began = chip.world.now_us
            assert chip_radio.receive() is None
            start_us, end_us, _, _ = chip.windows[0]
            assert end_us - start_us == set_to * symbol_us(sf)
            assert 0 <= chip.world.now_us - began - (end_us - start_us) < 7000
            assert chip.mode == 0x81


def test_a_frame_with_a_wrong_checksum_is_no_frame():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.prepare(868300000, 9, 20)
    chip.world.frames.append((chip.world.now_us + 1000, 868300000, 9, b"bad", 0x60))
    assert chip_radio.receive() is None and chip.registers[0x12] == 0


def test_a_broken_chip_is_a_fault_and_no_endless_wait():
    chip = Chip(World())
    chip.absent = True
    assert fault_of(radio, chip) == "radio absent"
    chip = Chip(World())
    chip.never_calibrated = True
    assert fault_of(radio, chip) == "radio image"
    chip = Chip(World())
    chip_radio = radio(chip)
    chip.deaf = True
    assert fault_of(chip_radio.transmit, 868300000, 7, 14, b"x") == "radio transmit"
    assert chip.mode == 0x81, "it does not send on"
    chip.deaf = False
    chip.change(0x80)
    chip.absent = True
    assert fault_of(chip_radio.transmit, 868300000, 7, 14, b"x") == "radio transmit"


def test_after_sleep_everything_is_set_anew():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.transmit(868300000, 9, 14, b"x")
    chip_radio.sleep()
    assert chip.mode == 0x80
    chip_radio.start()
    chip_radio.transmit(868300000, 9, 14, b"y")
    assert [one[2:4] for one in chip.transmitted] == [(9, b"x"), (9, b"y")]


def test_an_empty_window_costs_few_calls():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.transmit(868300000, 9, 14, b"x" * 20)
    before = chip.world.calls
    chip_radio.prepare(868300000, 9, 20)
    assert chip_radio.receive() is None
    print("hardware calls of an empty window:", chip.world.calls - before)
    assert chip.world.calls - before <= 45
