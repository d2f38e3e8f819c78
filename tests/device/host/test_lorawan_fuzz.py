"""Whatever comes from the air or out of memory, the device's MAC goes on."""

from brim.lorawan import frames
from brim.lorawan.crypto import session_keys
from brim.lorawan.eu868 import sub_band
from brim.lorawan.mac import Mac, MacError
from brim_gateway.network.session import EcbCipher
from hypothesis import given, settings
from hypothesis import strategies as st

DEV_EUI = bytes.fromhex("70b3d57ed0000001")
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
ADDR = b"\x44\x33\x22\x01"


def make(stored=None, kept=None):
    return Mac(DEV_EUI, bytes(8), APP_KEY, EcbCipher, bytes, lambda: stored, kept)


def joined():
    mac = make()
    mac.join()
    mac.on_accept(frames.build_join_accept(EcbCipher(APP_KEY), frames.Accept(1, 0, ADDR, 3, 1, [])))
    keys = session_keys(EcbCipher(APP_KEY), 1, 0, 1)
    return mac, EcbCipher(keys[0]), EcbCipher(keys[1])


def still_works(mac):
    """It sends within the region, or says why not; and its state can be kept and taken up again."""
    mac.advance(2 * 3600000)
    try:
        actions = mac.send(1, bytes(12))
    except MacError as error:
        assert str(error) == "duty"
        actions = []
    for action in actions:
        if action[0] == "transmit":
            assert sub_band(action[1]) >= 0 and 7 <= action[2] <= 12 and 0 <= action[3] <= 14
        elif action[0] == "listen":
            assert 1000 <= action[1] <= 16000 and sub_band(action[2]) >= 0 and 7 <= action[3] <= 12
    state = mac.state()
    assert len(state) <= 300
    assert make(None, state).joined == mac.joined


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=260))
def test_no_bytes_from_the_air_are_believed(phy):
    mac, _, _ = joined()
    before = mac.state()
    assert mac.on_frame(phy, 0) is None
    assert mac.on_accept(phy) is None
    assert mac.state() == before


commands = st.lists(
    st.tuples(st.integers(2, 0x14), st.binary(max_size=5)).map(lambda pair: bytes((pair[0],)) + pair[1]), max_size=5
)


@settings(max_examples=400, deadline=None)
@given(st.lists(commands, min_size=1, max_size=4), st.booleans())
def test_no_commands_of_a_network_break_the_device(downlinks, in_fopts):
    mac, net, app = joined()
    for f_cnt, parts in enumerate(downlinks):
        data = b"".join(parts)
        if in_fopts:
            phy = frames.build_data(frames.DATA_DOWN, net, app, ADDR, 0, f_cnt, data[:15], None, b"")
        else:
            phy = frames.build_data(frames.DATA_DOWN, net, app, ADDR, 0, f_cnt, b"", 0, data)
        assert mac.on_frame(phy, -3) is not None
        assert len(mac.answers) <= 15
        still_works(mac)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_garbage_in_memory_or_flash_breaks_the_device(stored, kept):
    mac = make(stored, kept)
    assert not mac.joined
    assert mac.join()[1][0] == "transmit"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.integers(0, 7))
def test_no_flipped_bit_in_the_kept_state_is_believed(at, bit):
    mac, _, _ = joined()
    actions = mac.send(1, b"x")
    stored = next(action[1] for action in actions if action[0] == "persist")
    kept = bytearray(mac.state())
    kept[at % len(kept)] ^= 1 << bit
    # Not believed: it goes on at the ceiling in flash, and skips numbers rather than using one twice.
    sent = next(action[4] for action in make(stored, bytes(kept)).send(1, b"y") if action[0] == "transmit")
    assert frames.parse_data(sent).f_cnt == 64
