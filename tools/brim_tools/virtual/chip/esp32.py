"""`esp32` as far as Brim's firmware uses it: NVS, which is volatile until commit, and wake pins."""

import struct

import _host

WAKEUP_ALL_LOW = 0
WAKEUP_ANY_HIGH = 1

_NOT_FOUND = -4354  # ESP_ERR_NVS_NOT_FOUND, as esp32.NVS raises it
_I32 = 0
_BLOB = 1


class NVS:
    def __init__(self, namespace):
        self._space = namespace.encode()

    def _name(self, kind, key):
        name = key.encode()
        if not 0 < len(name) <= 15:
            raise OSError(-4361)  # ESP_ERR_NVS_KEY_TOO_LONG
        return bytes([kind, len(self._space)]) + self._space + bytes([len(name)]) + name

    def _get(self, kind, key):
        answer = _host.call(_host.NVS_GET, self._name(kind, key))
        if answer[0]:
            raise OSError(_NOT_FOUND)
        return answer[1:]

    def get_i32(self, key):
        return struct.unpack("<i", self._get(_I32, key))[0]

    def set_i32(self, key, value):
        _host.call(_host.NVS_SET, self._name(_I32, key) + struct.pack("<i", value))

    def get_blob(self, key, buffer):
        data = self._get(_BLOB, key)
        if len(data) > len(buffer):
            raise OSError(-4364)  # ESP_ERR_NVS_INVALID_LENGTH
        buffer[: len(data)] = data
        return len(data)

    def set_blob(self, key, value):
        _host.call(_host.NVS_SET, self._name(_BLOB, key) + bytes(value))

    def erase_key(self, key):
        if _host.call(_host.NVS_ERASE, self._name(_BLOB, key))[0]:
            raise OSError(_NOT_FOUND)

    def commit(self):
        _host.call(_host.NVS_COMMIT, self._space)


def wake_on_ext0(pin, level):
    _host.call(_host.WAKE_ON, bytes([pin.id if pin is not None else 255, 1 if level else 0]))


def wake_on_ext1(pins, level):
    for pin in pins or ():
        wake_on_ext0(pin, level)


def gpio_deep_sleep_hold(enable):
    pass
