"""The SX1262 driver and the LoRaWAN link against a chip of registers and opcodes, on a clock of its own."""

from brim.core.faults import RadioFault
from brim.drivers.sx1262 import SX1262
from brim.links.lorawan_link import STORE_KEY, LorawanLink, window_offset_us, window_symbols
from brim.lorawan import frames, join_frames
from brim.lorawan.airtime import airtime_us, symbol_us
from brim.lorawan.crypto import session_keys

try:
    from cryptolib import aes

    class Cipher:
        def __init__(self, key):
            self.encrypt = aes(key, 1).encrypt
            self.decrypt = aes(key, 1).decrypt

except ImportError:
    from brim_gateway.network.session import EcbCipher as Cipher

TICKS = 1 << 30
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
ADDR = b"\x44\x33\x22\x01"


class World:
    """Microseconds that pass only in waits, a little in every call, and what is in the air."""

    def __init__(self, start_us=TICKS - 3000000):
        self.now_us = start_us
        self.calls = 0
        self.frames = []

    def call(self):
        self.calls += 1
        self.now_us += 20

    def ticks_ms(self):
        self.call()
        return self.now_us // 1000 % TICKS

    def ticks_us(self):
        self.call()
        return self.now_us % TICKS

    def sleep_ms(self, ms):
        self.call()
        self.now_us += ms * 1000

    def time_s(self):
        return self.now_us // 1000000


class Pin:
    def __init__(self, world, read=None, write=None):
        self.world, self.read, self.write = world, read, write

    def value(self, level=None):
        self.world.call()
        return self.read() if level is None else self.write(level)


class Chip:
    """Opcodes as of the data sheet, chapter 13; TCXO start, symbol timeout and interrupts in world time."""

    def __init__(self, world):
        self.world = world
        self.selected = False
        self.absent = self.deaf = self.always_busy = False
        self.errors = 0
        self.transmitted = []
        self.windows = []
        self.log = []
        self.reset()

    def reset(self):
        self.registers = {0x0736: 0x0D, 0x0740: 0x14, 0x0741: 0x24}
        self.mode = 2
        self.irq = 0
        self.buffer = bytearray(256)
        self.busy_until = self.world.now_us + 1000
        self.frequency = self.symbols = 0
        self.errors |= 0x20

    def pins(self):
        world = self.world
        return (
            self,
            Pin(world, write=self.select),
            Pin(world, write=lambda level: None if level else self.reset()),
            Pin(world, read=lambda: 1 if self.always_busy or world.now_us < self.busy_until else 0),
            Pin(world, read=lambda: 1 if self.irq else 0),
            self.wait_dio1,
            world,
        )

    def select(self, level):
        self.selected = not level

    def write_readinto(self, out, into):
        self.world.call()
        assert self.selected
        assert self.world.now_us >= self.busy_until
        sent = bytes(out)
        if self.absent:
            into[:] = b"\xff" * len(sent)
            return
        answer = bytearray(bytes((self.mode << 4,)) * len(sent))
        self.log.append(sent[0])
        self.command(sent, answer)
        into[:] = answer

    def command(self, sent, answer):
        op = sent[0]
        if op == 0x0D:
            for offset, value in enumerate(sent[3:]):
                self.registers[(sent[1] << 8 | sent[2]) + offset] = value
        elif op == 0x07:
            self.errors = 0
        elif op == 0x89:
            self.busy_until = self.world.now_us + 8500
        elif op == 0x17:
            answer[2], answer[3] = self.errors >> 8, self.errors & 255
        elif op == 0x86:
            self.frequency = int.from_bytes(sent[1:5], "big")
        elif op == 0x8B:
            self.modulation = sent[1:]
        elif op == 0x8C:
            self.packet = sent[1:]
        elif op == 0x8E:
            self.power = sent[1] - 256 if sent[1] > 127 else sent[1]
        elif op == 0x08:
            self.masks = sent[1:]
        elif op == 0xA0:
            self.symbols = sent[1]
        elif op == 0x0E:
            self.buffer[sent[1] : sent[1] + len(sent) - 2] = sent[2:]
        elif op == 0x83:
            self.transmit()
        elif op == 0x82:
            self.listen(int.from_bytes(sent[1:4], "big"))
        elif op == 0x12:
            answer[2], answer[3] = self.irq >> 8, self.irq & 255
        elif op == 0x02:
            self.irq &= ~(sent[1] << 8 | sent[2])
        elif op == 0x13:
            answer[2], answer[3] = self.length, 0x20
        elif op == 0x14:
            answer[2], answer[3] = 180, 0xEA
        elif op == 0x1E:
            answer[3:] = self.buffer[sent[1] : sent[1] + len(sent) - 3]
        elif op == 0x84:
            self.mode = 0

    def hz(self):
        return (self.frequency * 32000000 + (1 << 24)) >> 25

    def transmit(self):
        if self.deaf:
            self.done_us, self.event = None, 0
            return
        phy = bytes(self.buffer[: self.packet[3]])
        start_us = self.world.now_us + 5000
        self.done_us = start_us + airtime_us(len(phy), self.modulation[0])
        self.event = 0x001
        self.transmitted.append((self.done_us, self.hz(), self.modulation[0], phy))

    def listen(self, timeout):
        start_us = self.world.now_us + 5000
        sf = self.modulation[0]
        end_us = start_us + (self.symbols << 0) * symbol_us(sf)
        self.windows.append((start_us, end_us, self.hz(), sf))
        self.done_us, self.event = min(end_us, start_us + timeout * 1000 // 64), 0x200
        for at_us, hz, frame_sf, phy in self.world.frames:
            # Six symbols of preamble are needed, and the search must still run by then.
            preamble_end = at_us + 8 * symbol_us(sf)
            heard_from = max(start_us, at_us)
            if (abs(hz - self.hz()) > 100) or frame_sf != sf or preamble_end - heard_from < 6 * symbol_us(sf):
                continue
            if (
                at_us + 4 * symbol_us(sf) > end_us
                or self.registers[0x0736] != 0x09
                or self.packet[4]
                or not self.packet[5]
            ):
                continue
            self.length = len(phy)
            self.buffer[0x20 : 0x20 + len(phy)] = phy
            self.done_us, self.event = at_us + airtime_us(len(phy), sf, crc=False), 0x002

    def wait_dio1(self, timeout_ms):
        self.world.call()
        limit = self.world.now_us + timeout_ms * 1000
        if self.done_us is None or self.done_us > limit:
            self.world.now_us = limit
            return False
        self.world.now_us = max(self.world.now_us, self.done_us)
        self.irq |= self.event
        return True


class Store:
    def __init__(self):
        self.values = {}
        self.broken = False

    def get(self, key):
        return self.values.get(key)

    def put(self, key, value):
        if self.broken:
            raise OSError(5)
        self.values[key] = value


class Identity:
    dev_eui = bytes.fromhex("70b3d57ed0000001")
    join_eui = bytes(8)
    app_key = APP_KEY
    sf = 7


def radio(chip):
    return SX1262(*(chip.pins() + (1800, True)))


def link(chip, store, state=None):
    return LorawanLink(radio(chip), state, store, Identity(), Cipher, chip.world, lambda n: bytes(n), 900)


def fault_of(call, *args):
    try:
        call(*args)
    except RadioFault as fault:
        return str(fault)
    return None


def later(world, ms):
    return (world.now_us // 1000 + ms) % TICKS


class Network:
    """Answers as a server would: the accept 5 s after a join-request, a downlink 1 or 2 s after an uplink."""

    def __init__(self, chip, drift_us=0, window=1):
        self.chip, self.drift_us, self.window = chip, drift_us, window
        self.f_cnt_down = 0
        self.heard = []

    def serve(self, answer=True):
        """Look at each transmission as it ends, by standing in the chip's way to listening."""
        listen = self.chip.listen

        def hooked(timeout):
            end_us, hz, sf, phy = self.chip.transmitted[-1]
            if answer and len(self.heard) < len(self.chip.transmitted):
                self.heard.append(phy)
                first_s, second = (5, (869525000, 12)) if phy[0] == 0 else (1, (869525000, 9))
                at_us = end_us + (first_s + self.window - 1) * 1000000 + self.drift_us
                down_hz, down_sf = (hz, sf) if self.window == 1 else second
                self.chip.world.frames.append((at_us, down_hz, down_sf, self.reply(phy)))
            listen(timeout)

        self.chip.listen = hooked

    def reply(self, phy):
        app = Cipher(APP_KEY)
        if phy[0] == 0:
            dev_nonce = join_frames.parse_join_request(phy)[2]
            keys = session_keys(app, dev_nonce, 0, dev_nonce)
            self.net, self.app = Cipher(keys[0]), Cipher(keys[1])
            return join_frames.build_join_accept(app, join_frames.Accept(dev_nonce, 0, ADDR, 3, 1, []))
        self.f_cnt_down += 1
        return frames.build_data(3, self.net, self.app, ADDR, 0, self.f_cnt_down - 1, b"", 2, b"\x01ack")


def test_the_chip_is_configured_for_lorawan():
    chip = Chip(World())
    radio(chip).start()
    assert (chip.registers[0x0740], chip.registers[0x0741]) == (0x34, 0x44)
    assert chip.registers[0x08D8] & 0x1E == 0x1E and chip.registers[0x0889] & 4
    assert chip.log.index(0x97) < chip.log.index(0x89) < chip.log.index(0x98)
    assert chip.masks[:4] == b"\x02\x63\x02\x63"


def test_an_uplink_goes_out_as_the_region_wants_it():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.start()
    end_us = chip_radio.transmit(868300000, 12, 14, b"x" * 23)
    done_us, hz, sf, phy = chip.transmitted[0]
    assert abs(hz - 868300000) < 2 and sf == 12 and phy == b"x" * 23 and chip.power == 22
    assert 0 <= (end_us - done_us) % TICKS < 100
    assert chip.modulation == bytes((12, 4, 1, 1, 0, 0, 0, 0))
    # preamble 8, explicit header, CRC, IQ as it is
    assert chip.packet[:6] == bytes((0, 8, 0, 23, 1, 0)) and chip.registers[0x0736] == 0x0D
    chip_radio.transmit(868300000, 7, 2, b"y")
    assert chip.power == 10 and chip.modulation == bytes((7, 4, 1, 0, 0, 0, 0, 0))


def test_a_downlink_is_heard_with_inverted_iq_and_an_uplink_after_it_is_not_inverted():
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.start()
    chip_radio.transmit(868300000, 7, 14, b"x")
    chip.world.frames.append((chip.world.now_us + 15000, 868300000, 7, b"down"))
    chip_radio.prepare(868300000, 7, 40)
    assert chip_radio.receive() == (b"down", -6, -90)
    chip_radio.prepare(868300000, 7, 40)
    assert chip_radio.receive() is None
    chip_radio.transmit(868300000, 7, 14, b"y")
    assert chip.registers[0x0736] == 0x0D and chip.packet[5] == 0


def test_a_broken_chip_is_a_fault_and_no_endless_wait():
    chip = Chip(World())
    chip.absent = True
    assert fault_of(radio(chip).start) == "radio absent"
    chip = Chip(World())
    chip.always_busy = True
    assert fault_of(radio(chip).start) == "radio busy"
    chip = Chip(World())
    chip_radio = radio(chip)
    chip_radio.start()
    chip.deaf = True
    assert fault_of(chip_radio.transmit, 868300000, 7, 14, b"x") == "radio transmit"
    chip.errors = 0x40
    assert fault_of(chip_radio.transmit, 868300000, 7, 14, b"x") == "radio pll lock"


def test_a_window_covers_the_preamble_whatever_the_clock_error():
    for sf in (7, 9, 12):
        for delay_ms in (1000, 2000, 6000):
            symbols = window_symbols(sf, delay_ms)
            start_us = window_offset_us(sf, symbols)
            end_us = start_us + symbols * symbol_us(sf)
            error_us = (10 + delay_ms // 100) * 1000
            # Six symbols are left of a preamble that comes early, and four have passed of one that comes late.
            assert start_us <= -error_us + 2 * symbol_us(sf)
            assert end_us >= error_us + 4 * symbol_us(sf)
            assert symbols <= 248


def session(chip, store):
    first = link(chip, store)
    network = Network(chip)
    network.serve()
    assert first.open(later(chip.world, 20000)) is None
    first.close()
    return first.state(), network


def test_a_join_and_an_exchange_over_the_chip():
    chip, store = Chip(World()), Store()
    state, network = session(chip, store)
    assert len(state) <= 300 and len(chip.windows) == 1
    for window in (1, 2):
        for drift_us in (-19000, 0, 19000):
            network.window, network.drift_us = window, drift_us
            second = link(chip, store, state)
            assert second.open(later(chip.world, 20000)) is None
            result = second.exchange(b"report", later(chip.world, 20000))
            assert (result.sent, result.held, result.commands, result.fault) == (True, False, [b"\x01ack"], None)
            second.close()
            assert chip.mode == 0
            state = second.state()


def test_without_an_answer_an_exchange_is_sent_and_nothing_more():
    chip, store = Chip(World()), Store()
    state, network = session(chip, store)
    network.chip.world.frames = []
    network.heard = [None] * 100
    chip.world.calls = 0
    second = link(chip, store, state)
    second.open(later(chip.world, 20000))
    result = second.exchange(b"report", later(chip.world, 20000))
    second.close()
    assert (result.sent, result.commands, result.fault) == (True, [], None)
    print("hardware calls of an uplink without an answer:", chip.world.calls)
    assert chip.world.calls <= 155


def test_what_cannot_be_stored_is_not_sent_and_not_believed_later():
    chip, store = Chip(World()), Store()
    state, network = session(chip, store)
    network.heard = [None] * 200
    second = link(chip, store, state)
    assert second.exchange(b"one", later(chip.world, 20000)).sent
    store.broken = True
    # The counter reaches its ceiling in flash: it may not go on, neither at once nor at the next try.
    for _ in range(70):
        chip.world.now_us += 600000000
        result = second.exchange(b"more", later(chip.world, 20000))
        if not result.sent:
            break
    for _ in range(2):
        assert (result.sent, result.fault) == (False, "store")
        result = second.exchange(b"more", later(chip.world, 20000))
    second.close()
    assert second.state() == b""
    store.broken = False
    third = link(chip, store)
    assert third.exchange(b"again", later(chip.world, 20000)).sent
    counters = [frames.parse_data(phy).f_cnt for _, _, _, phy in chip.transmitted if phy[0]]
    assert counters == list(range(64)) + [64]


def test_a_command_whose_counter_cannot_be_kept_is_not_obeyed():
    chip, store = Chip(World()), Store()
    state, _ = session(chip, store)
    second = link(chip, store, state)
    assert second.exchange(b"one", later(chip.world, 20000)).commands == [b"\x01ack"]
    store.broken = True
    result = second.exchange(b"two", later(chip.world, 20000))
    assert (result.sent, result.commands, result.fault) == (True, [], "store")


def test_no_accept_no_time_and_no_radio_are_faults():
    chip, store = Chip(World()), Store()
    identity = Identity()
    identity.sf = 12
    first = LorawanLink(radio(chip), None, store, identity, Cipher, chip.world, lambda n: bytes(n), 0)
    assert first.open(later(chip.world, 5000)) == "join late"
    assert first.open(later(chip.world, 20000)) == "no join"
    assert first.open(later(chip.world, 20000)) == "join wait"
    first.close()
    again = link(chip, store, first.state())
    result = again.exchange(b"x", later(chip.world, 20000))
    assert (result.sent, result.fault) == (False, "mac no session")
    chip.absent = True
    assert link(chip, store).open(later(chip.world, 20000)) == "radio absent"
    assert STORE_KEY in store.values
