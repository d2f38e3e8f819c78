"""`network.WLAN` in station mode: the host decides whether the access point answers. Sockets are the real ones."""

import struct

import _host

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202

_ACTIVE = 0
_CONNECT = 1
_STATUS = 2
_DISCONNECT = 3
_MAC = 4
_RSSI = 5


class WLAN:
    IF_STA = 0
    IF_AP = 1

    def __init__(self, interface=0):
        self._on = False

    def active(self, is_active=None):
        if is_active is None:
            return self._on
        self._on = bool(is_active)
        _host.call(_host.WLAN, bytes([_ACTIVE, self._on]))
        return self._on

    def connect(self, ssid=None, key=None, bssid=None):
        ssid = (ssid or "").encode()
        _host.call(_host.WLAN, bytes([_CONNECT, len(ssid)]) + ssid + (key or "").encode())

    def disconnect(self):
        _host.call(_host.WLAN, bytes([_DISCONNECT]))

    def status(self, param=None):
        if param == "rssi":
            return struct.unpack("<i", _host.call(_host.WLAN, bytes([_RSSI])))[0]
        return struct.unpack("<H", _host.call(_host.WLAN, bytes([_STATUS])))[0]

    def isconnected(self):
        return self.status() == STAT_GOT_IP

    def config(self, param=None, **settings):
        if param == "mac":
            return bytes(_host.call(_host.WLAN, bytes([_MAC])))
        return None

    def ifconfig(self, config=None):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")


def hostname(name=None):
    return name


def country(code=None):
    return code
