"""LoRaWAN as a link, on a radio that only notes what it is told: repeats, delays, and who waits for a bin."""

from brim.links.lorawan_link import REPEAT_MS, LorawanLink
from brim.lorawan import frames

from tests.device.lorawan_bench import ADDR, APP_KEY, DEV_EUI, JOIN_EUI, Cipher, Network, accept

BUDGET_MS = 20000


class Clock:
    def __init__(self):
        self.now_us = 0

    def ticks_ms(self):
        return self.now_us // 1000 & 0x3FFFFFFF

    def ticks_us(self):
        return self.now_us & 0x3FFFFFFF

    def sleep_ms(self, ms):
        self.now_us += 1000 * ms


class Radio:
    START_MS = 5

    """`answers`: what each window brings, in order; then nothing more."""

    def __init__(self, clock):
        self.clock = clock
        self.sent = []
        self.windows = []
        self.answers = []

    def start(self):
        pass

    def sleep(self):
        pass

    def transmit(self, freq_hz, sf, power_dbm, phy):
        self.clock.sleep_ms(60)
        self.sent.append((self.clock.now_us, freq_hz, phy))
        return self.clock.ticks_us()

    def prepare(self, freq_hz, sf, symbols):
        self.windows.append((freq_hz, sf))

    def receive(self):
        self.clock.sleep_ms(30)
        phy = self.answers.pop(0) if self.answers else None
        return None if phy is None else (phy, 7, -60)


class Store:
    def __init__(self):
        self.blob = None

    def get(self, key):
        return self.blob

    def put(self, key, blob):
        self.blob = blob


class Identity:
    dev_eui = DEV_EUI
    join_eui = JOIN_EUI
    app_key = APP_KEY
    sf = 7


class Place:
    """One bin with its radio, clock and flash."""

    def __init__(self):
        self.clock = Clock()
        self.radio = Radio(self.clock)
        self.store = Store()

    def link(self, state=None, spread=False, slept_s=0, byte=128):
        return LorawanLink(
            self.radio,
            state,
            self.store,
            Identity(),
            Cipher,
            self.clock,
            lambda n: bytes((byte,)) * n,
            slept_s,
            spread,
        )

    def deadline(self):
        return self.clock.ticks_ms() + BUDGET_MS

    def joined(self):
        link = self.link()
        self.radio.answers = [accept(1)]
        assert link.open(self.deadline()) is None
        return link, Network(1, 1)


def test_a_bin_that_nobody_waits_for_spreads_its_first_join():
    place = Place()
    link = place.link(spread=True)
    assert link.open(place.deadline()) == "join wait"
    assert place.radio.sent == []
    # Half an hour later it is due, sleep counted at nine tenths.
    state = link.state()
    link = place.link(state, True, 1900)
    assert link.open(place.deadline()) == "join wait"
    link = place.link(link.state(), True, 200)
    assert link.open(place.deadline()) == "no join"
    assert len(place.radio.sent) == 1


def test_a_technician_does_not_wait():
    place = Place()
    link = place.link(spread=True)
    assert link.open(place.deadline()) == "join wait"
    assert place.link(link.state()).open(place.deadline()) == "no join"
    assert place.link().open(place.deadline()) == "join wait"


def test_an_uplink_is_repeated_until_an_answer_comes_and_never_at_once():
    place = Place()
    link, network = place.joined()
    link.mac.nb_trans = 3
    place.radio.sent.clear()
    place.radio.answers = [None, None, None, network.down(0, 2, b"\x01go")]
    result = link.send(1, b"x", place.deadline())
    assert (result.sent, result.commands) == (True, [b"\x01go"])
    assert [phy for _, _, phy in place.radio.sent] == [place.radio.sent[0][2]] * 2
    gap_ms = (place.radio.sent[1][0] - place.radio.sent[0][0]) // 1000
    # RX2 opens after 2 s; then a second and half of another, as the dice say.
    assert gap_ms >= 2000 + REPEAT_MS + REPEAT_MS // 2


def test_repeats_end_with_the_time_of_the_wake():
    place = Place()
    link, _ = place.joined()
    link.mac.nb_trans = 15
    place.radio.sent.clear()
    began_ms = place.clock.ticks_ms()
    assert link.send(1, b"x", place.deadline()).sent
    assert 2 <= len(place.radio.sent) < 15
    assert place.clock.ticks_ms() - began_ms <= BUDGET_MS
    link.mac.rx1_delay_s = 15
    place.radio.sent.clear()
    began_ms = place.clock.ticks_ms()
    assert link.send(1, b"x", place.deadline()).sent
    assert len(place.radio.sent) == 1 and place.clock.ticks_ms() - began_ms <= BUDGET_MS


def test_the_bin_asks_for_the_time_and_gets_it():
    place = Place()
    link, network = place.joined()
    link.mac.ask_time()
    place.radio.answers = [network.down(0, f_opts=b"\x0d\x00\x10\x00\x00\x40")]
    assert link.send(1, b"x", place.deadline()).sent
    frame, _ = network.open(place.radio.sent[-1][2], 0)
    assert frame.f_opts == b"\x0d" and frame.dev_addr == ADDR and frame.m_type == frames.DATA_UP
    assert link.mac.network_time == (4096, 64)


def test_a_network_that_is_silent_for_days_is_joined_again_while_the_old_session_goes_on():
    place = Place()
    link, _ = place.joined()
    state = link.state()
    joins = 0
    for _ in range(64 + 8 * 32 + 200):
        link = place.link(state, True, 3600)
        before = len(place.radio.sent)
        assert link.open(place.deadline()) is None
        joins += len([1 for _, _, phy in place.radio.sent[before:] if phy[0] == 0])
        assert link.send(1, b"x", place.deadline()).sent
        state = link.state()
    # Not at every wake: back-off.
    assert 1 <= joins < 100


def test_the_battery_is_told_between_low_and_fresh():
    link = Place().link()
    told = []
    for battery_mv in (2900, 3100, 3350, 3600, 4200):
        link.set_battery(battery_mv, 3100)
        told.append(link.mac.battery)
    assert told == [1, 1, 127, 254, 254]
    link.set_battery(3600, 4000)
    assert 1 <= link.mac.battery <= 254
