"""Drivers understand their chips, and know when they do not."""

from brim.core.faults import SensorFault
from brim.drivers import ranger_maxbotix
from brim.drivers.accelerometer import Accelerometer, tilted
from brim.drivers.battery import Battery, battery_mv
from brim.drivers.ranger_pulse import RangerPulse
from brim.drivers.ranger_uart import MAX_READS, RangerUart, parse
from brim.drivers.rangers import settled
from brim.drivers.thermometer import Thermometer, celsius


def frame(mm):
    high, low = mm >> 8, mm & 0xFF
    return bytes([0xFF, high, low, (0xFF + high + low) & 0xFF])


def faults(call, *args):
    try:
        call(*args)
    except SensorFault:
        return True
    return False


def test_the_makers_own_example_is_1953_mm():
    assert parse(b"\xff\x07\xa1\xa7") == ([1953], b"")


def test_a_real_log_line_is_224_mm():
    assert parse(b"\xff\x00\xe0\xdf") == ([224], b"")


def test_ff_inside_a_frame_is_data():
    assert parse(frame(255) + frame(0xFF00 >> 4) + frame(511)) == ([255, 0xFF0, 511], b"")


def test_it_resynchronises_after_any_cut():
    stream = frame(1953) + frame(255) + frame(1000) + frame(1001)
    for cut in range(1, 5):
        echoes, rest = parse(stream[cut:])
        assert echoes[-2:] == [1000, 1001] and rest == b"", cut


def test_a_half_frame_waits_for_its_rest():
    echoes, rest = parse(frame(800) + frame(801)[:2])
    assert echoes == [800]
    assert parse(rest + frame(801)[2:]) == ([801], b"")


def test_a_wrong_sum_is_no_distance():
    assert parse(b"\xff\x07\xa1\xa8" + frame(900)) == ([900], b"")


class Rail:
    def __init__(self):
        self.calls = []

    def __call__(self, on):
        self.calls.append(on)


class Uart:
    """Gives `chunks` one read after the other, then silence."""

    def __init__(self, chunks):
        self.chunks = list(chunks)
        self.reads = 0
        self.closed = False

    def read(self, nbytes):
        self.reads += 1
        return self.chunks.pop(0) if self.chunks else None

    def deinit(self):
        self.closed = True


def measured(chunks):
    rail, uart = Rail(), Uart(chunks)
    echoes = RangerUart(rail, lambda: uart, lambda: True).echoes()
    assert rail.calls == [True, False] and uart.closed
    return echoes, uart.reads


def test_five_agreeing_echoes_are_enough():
    assert settled([1, 800, 805, 803, 801, 810])
    assert measured([frame(812)] * 15) == ([812] * 5, 5)


def test_up_to_fifteen_are_taken_when_they_disagree():
    echoes, reads = measured([frame(800 + 100 * (i % 2)) for i in range(30)])
    assert len(echoes) == 15 and reads == 15


def test_a_silent_sensor_costs_two_timeouts():
    assert measured([]) == ([], 2)


def test_a_babbling_sensor_costs_a_bounded_number_of_reads():
    uart = Uart([b"\x55\xff\x00\xaa"] * 100)
    assert RangerUart(Rail(), lambda: uart, lambda: True).echoes() == []
    assert uart.reads == MAX_READS and uart.closed


def test_the_rail_is_cut_even_if_the_uart_fails():
    rail = Rail()

    def broken():
        raise OSError(5)

    try:
        RangerUart(rail, broken, lambda: True).echoes()
    except OSError:
        assert rail.calls == [True, False]
        return
    raise AssertionError("no error")


def test_degrees_are_rounded_and_signed():
    # TI SBOS397, table 7-4
    assert celsius(b"\x64\x00") == 100
    assert celsius(b"\x19\x00") == 25
    assert celsius(b"\x00\x40") == 0
    assert celsius(b"\x00\x80") == 1
    assert celsius(b"\xff\xc0") == 0
    assert celsius(b"\xe7\x00") == -25
    assert faults(celsius, b"\xc9\x00")


class I2c:
    def __init__(self, registers):
        self.registers = registers
        self.written = []

    def readfrom_mem(self, addr, memaddr, nbytes):
        data = self.registers.get((addr, memaddr))
        if data is None:
            raise OSError(19)
        return data[:nbytes]

    def writeto_mem(self, addr, memaddr, buf):
        self.written.append((addr, memaddr, bytes(buf)))


class Clock:
    def sleep_ms(self, ms):
        assert ms <= 50


def test_the_thermometer_reads_its_register():
    assert Thermometer(I2c({(0x48, 0): b"\x19\x00"})).celsius() == 25


def xyz(x, y, z):
    return b"".join([(axis & 0xFFFF).to_bytes(2, "little") for axis in (x, y, z)])


def test_more_than_45_degrees_is_tilted():
    assert not tilted(xyz(0, 0, 16384))
    assert not tilted(xyz(0, 0, -16384))
    assert not tilted(xyz(11000, 0, 12000))
    assert tilted(xyz(12000, 0, 11000))
    assert tilted(xyz(0, -16384, 0))


def test_without_gravity_it_cannot_tell():
    assert faults(tilted, xyz(0, 0, 0))
    assert faults(tilted, xyz(32767, 32767, 32767))


def test_the_accelerometer_sleeps_again():
    i2c = I2c({(0x18, 0x0F): b"\x33", (0x18, 0xA8): xyz(0, 0, 16384)})
    assert not Accelerometer(i2c, Clock()).tilted()
    assert i2c.written == [(0x18, 0x20, b"\x57"), (0x18, 0x20, b"\x00")]


def test_another_chip_at_its_address_is_a_fault():
    assert faults(Accelerometer(I2c({(0x18, 0x0F): b"\x32"}), Clock()).tilted)


class Adc:
    def read_uv(self):
        return 734694


def test_the_battery_is_what_the_divider_makes_of_it():
    rail = Rail()
    assert Battery(Adc(), rail, 4900).millivolts() == 3600
    assert rail.calls == [True, False]


def test_no_battery_is_a_fault_and_not_zero():
    assert faults(battery_mv, 0, 4900)
    assert faults(battery_mv, 3000000, 4900)


def test_a_silent_sensor_is_asked_whether_it_has_power():
    for line_high in (True, False):
        ranger = RangerUart(Rail(), lambda: Uart([]), lambda line_high=line_high: line_high)
        assert ranger.echoes() == [] and ranger.rail_ok == line_high


def test_a_maxbotix_speaks_in_digits():
    assert ranger_maxbotix.parse(b"R1234\rR0300\rR5000\rR49") == ([1234, 300, 0], b"R49")


def test_a_maxbotix_greeting_and_noise_are_skipped():
    text = b"HRXL-WR\rCopyright 2011\rMaxBotix\rRoHS 3.8\rR0812\r\x00RR0813\rR08\r1R08a4\rR0814\r"
    assert ranger_maxbotix.parse(text)[0] == [812, 813, 814]


def test_a_maxbotix_is_read_like_the_others():
    frames = [b"R%04d\r" % mm for mm in (900, 902, 901, 900, 903, 900)]
    uart = Uart(frames)
    ranger = RangerUart(Rail(), lambda: uart, lambda: True, ranger_maxbotix.parse, ranger_maxbotix.FRAME_BYTES)
    assert ranger.echoes() == [900, 902, 901, 900, 903]


class Pings:
    def __init__(self, pulses_us):
        self.pulses_us = pulses_us
        self.slept_ms = 0
        self.count = 0

    def __call__(self, trigger_us, timeout_us):
        assert trigger_us >= 20 and timeout_us > 60000 and self.slept_ms >= 100
        self.count += 1
        return self.pulses_us[(self.count - 1) % len(self.pulses_us)]

    def sleep_ms(self, ms):
        self.slept_ms += ms


def pinged(*pulses_us):
    rail, pings = Rail(), Pings(pulses_us)
    echoes = RangerPulse(rail, pings, pings.sleep_ms, 100).echoes()
    assert rail.calls == [True, False]
    return echoes, pings.count


def test_a_pulse_is_half_the_way_of_sound():
    assert pinged(5828) == ([1000] * 5, 5)


def test_a_pulse_that_never_ends_or_lasts_too_long_is_no_echo():
    echoes, count = pinged(-1, 60000)
    assert set(echoes) == {0} and count == 5


def test_a_pulse_that_never_begins_is_a_silent_sensor():
    assert pinged(-2) == ([], 3)


def test_the_rail_goes_off_whatever_happens():
    def broken(trigger_us, timeout_us):
        raise OSError(5)

    rail = Rail()
    try:
        RangerPulse(rail, broken, lambda ms: None, 100).echoes()
    except OSError:
        pass
    assert rail.calls == [True, False]
