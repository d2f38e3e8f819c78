"""Over-the-air activation (LoRaWAN 1.0.4, section 6.2): the part of Mac that a wake with a session does not load."""

from brim.lorawan import eu868, join_frames
from brim.lorawan.airtime import airtime_us
from brim.lorawan.crypto import FrameError, session_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from brim.lorawan.mac import Action, Mac

JOIN_REQUEST_BYTES = 23
# Join airtime (chapter 7): at most 36 s in the first hour, 36 s in the next ten, then 8.7 s a day. After each try a
# request waits some times its own airtime. Here is where the periods end, in slots of 12 minutes counted from the
# first try: a little early, because sleep is counted at 90 %.
FIRST_SLOTS = 4
NEXT_SLOTS = 49
# Waits double up to this power of two: where many join at once, most of them must become quiet.
DOUBLINGS = 5


def _data_rate(mac: "Mac", tries: int) -> int:
    # Every second try reaches further, and after the slowest rate it begins anew.
    return mac._first_dr - tries // 2 % (mac._first_dr + 1)


def request(mac: "Mac") -> "list[Action]":
    """A join-request and the back-off after it; raises MacError `duty`."""
    mac._tx_dr = _data_rate(mac, mac._join_tries)
    mac._phy = join_frames.build_join_request(mac._app, mac._join_eui, mac._dev_eui, mac._next_nonce)
    sent = mac._transmit((0, 1, 2), True)
    back_off(mac)
    return sent


def back_off(mac: "Mac") -> None:
    """After a try: how long the next one waits, at random up to twice the least."""
    # A little more than the quotients, because a try at the very start of a period counts in full.
    age = mac._join_age
    legal = 100 if age < FIRST_SLOTS else 1100 if age < NEXT_SLOTS else 12000
    last = mac._join_tries - 1
    factor = max(legal, 100 << min(last, DOUBLINGS))
    airtime_ms = airtime_us(JOIN_REQUEST_BYTES, eu868.SF[_data_rate(mac, last)]) // 1000 + 1
    mac._join_wait_ms = airtime_ms * factor * (256 + mac._random(1)[0]) // 256


def take_accept(mac: "Mac", phy: bytes) -> "list[Action] | None":
    """What came after a join-request: None if it is no accept for this device."""
    try:
        accept = join_frames.parse_join_accept(mac._app, phy)
    except FrameError:
        return None
    offset, rx2_dr = accept.dl_settings >> 4 & 7, accept.dl_settings & 15
    # A JoinNonce never comes twice (section 6.2.6).
    if accept.join_nonce < mac._least_join_nonce or rx2_dr > eu868.MAX_DR or offset > eu868.MAX_RX1_OFFSET:
        return None
    mac._forget_session()
    mac.dr = mac._tx_dr
    mac._dev_addr = accept.dev_addr
    mac._use_keys(*session_keys(mac._app, accept.join_nonce, accept.net_id, mac._next_nonce - 1))
    mac._least_join_nonce = accept.join_nonce + 1
    mac.rx1_delay_s, mac.rx1_offset, mac.rx2_dr = accept.rx_delay_s, offset, rx2_dr
    for index, freq_hz in enumerate(accept.cf_list):
        if eu868.sub_band(freq_hz) >= 0:
            mac.channels[3 + index] = freq_hz
            mac.mask |= 8 << index
    mac._join_age = mac._join_wait_ms = mac._join_tries = 0
    mac._patience = mac._random(1)[0]
    return [("persist", mac._stored())]
