"""A device MAC on the bench: flash, a network with its keys, and the carrying out of actions. Runs on both Pythons."""

from brim.lorawan import frames, join_frames
from brim.lorawan.crypto import session_keys
from brim.lorawan.mac import Mac, MacError

try:
    from cryptolib import aes

    class Cipher:
        def __init__(self, key):
            self.encrypt = aes(key, 1).encrypt
            self.decrypt = aes(key, 1).decrypt

except ImportError:
    from brim_gateway.network.session import EcbCipher as Cipher

DEV_EUI = bytes.fromhex("70b3d57ed0000001")
JOIN_EUI = bytes.fromhex("70b3d57ed0000000")
APP_KEY = bytes.fromhex("6f1e2d3c4b5a69788796a5b4c3d2e1f0")
ADDR = b"\x44\x33\x22\x01"


class Flash:
    def __init__(self):
        self.blob = None
        self.writes = 0

    def load(self):
        return self.blob


def make(flash, kept=None, app_key=APP_KEY, step=64):
    return Mac(DEV_EUI, JOIN_EUI, app_key, Cipher, lambda n: bytes(n), flash.load, kept, step)


def run(flash, actions):
    """Carry out, as a link does; gives the transmission and the windows."""
    sent, windows = None, []
    for action in actions:
        if action[0] == "persist":
            assert sent is None
            flash.blob = action[1]
            flash.writes += 1
        elif action[0] == "transmit":
            sent = action
        else:
            windows.append(action)
    return sent, windows


def accept(join_nonce, dl_settings=3, rx_delay_s=1, cf_list=None):
    made = join_frames.Accept(join_nonce, 0x13, ADDR, dl_settings, rx_delay_s, cf_list or [])
    return join_frames.build_join_accept(Cipher(APP_KEY), made)


class Network:
    """The other end's keys after a join with this nonce."""

    def __init__(self, join_nonce, dev_nonce):
        keys = session_keys(Cipher(APP_KEY), join_nonce, 0x13, dev_nonce)
        self.net, self.app = Cipher(keys[0]), Cipher(keys[1])

    def down(self, f_cnt, f_port=None, payload=b"", f_opts=b"", f_ctrl=0, m_type=frames.DATA_DOWN):
        return frames.build_data(m_type, self.net, self.app, ADDR, f_ctrl, f_cnt, f_opts, f_port, payload)

    def open(self, phy, f_cnt):
        frame = frames.parse_data(phy)
        return frame, frames.open_data(self.net, self.app, phy, frame, f_cnt)


def joined(flash, step=64, dl_settings=3, cf_list=None):
    mac = make(flash, step=step)
    run(flash, mac.join())
    more = mac.on_accept(accept(1, dl_settings, 1, cf_list))
    run(flash, more)
    return mac, Network(1, 1)


def fails(word, call, *args):
    try:
        call(*args)
    except MacError as error:
        return str(error) == word
    return False
