"""The ESP32: the one file that imports machine, esp32 and network. Everything is made when it is first asked for."""

import gc
import sys
import time

import esp32
import machine

from brim.boards import heltec_v3 as board

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from brim.core.cycle import Wake
    from brim.core.hal import Ranger
    from brim.drivers.accelerometer import Accelerometer
    from brim.drivers.thermometer import Thermometer

WATCHDOG_MS = 60000
PERSON_MS = 600000  # the watchdog cannot be stopped: this is how long a person has at the REPL
LORAWAN_BUDGET_MS = 20000
WIFI_BUDGET_MS = 25000
LEAST_SLEEP_S = 60
MOST_SLEEP_S = 43200
SETTINGS_FILE = "/settings.json"
OUTBOX_FILE = "/outbox.bin"
MAX_BLOB_BYTES = 320
MAX_CERTIFICATE_BYTES = 1536
MEASURING = (
    "brim.boards.esp32_sensors",
    "brim.core.sense",
    "brim.core.measure",
    "brim.core.fill",
    "brim.core.geometry",
    "brim.core.history",
    "brim.core.events",
    "brim.core.sound",
    "brim.core.policy",
    "brim.core.settings_file",
    "brim.core.outbox_file",
    "brim.drivers.rangers",
    "brim.drivers.ranger_uart",
    "brim.drivers.ranger_maxbotix",
    "brim.drivers.ranger_pulse",
    "brim.drivers.thermometer",
    "brim.drivers.accelerometer",
    "brim.drivers.battery",
)
# Collecting often keeps the heap whole: without it, loading code in between garbage costs 14 KB more at the peak.
COLLECT_BYTES = 8192
BUILTINS = ("struct", "os", "binascii", "json", "select", "socket", "cryptolib")
MISSING_KEY = -0x1102  # ESP_ERR_NVS_NOT_FOUND


class Clock:
    """Ticks wrap at 2^30; time_s counts from 2000, through deep sleep, and drifts there."""

    def ticks_ms(self) -> int:
        return time.ticks_ms()  # type: ignore[return-value]

    def ticks_us(self) -> int:
        return time.ticks_us()  # type: ignore[return-value]

    def sleep_ms(self, ms: int) -> None:
        time.sleep_ms(ms)

    def time_s(self) -> int:
        return int(time.time())


class Store:
    """Named values in one NVS namespace, committed when the call returns. None: never stored; OSError: any failure."""

    def __init__(self, namespace: str) -> None:
        self._nvs = esp32.NVS(namespace)

    def get(self, key: str, limit: int = MAX_BLOB_BYTES) -> "bytes | None":
        buffer = bytearray(limit)
        try:
            size = self._nvs.get_blob(key, buffer)
        except OSError as error:
            _raise_unless_missing(error)
            return None
        return bytes(buffer[:size])

    def put(self, key: str, value: bytes) -> None:
        self._nvs.set_blob(key, value)
        self._nvs.commit()

    def get_int(self, key: str) -> "int | None":
        try:
            return self._nvs.get_i32(key)
        except OSError as error:
            _raise_unless_missing(error)
            return None

    def put_int(self, key: str, value: int) -> None:
        self._nvs.set_i32(key, value)
        self._nvs.commit()


def _raise_unless_missing(error: OSError) -> None:
    # Counters that cannot be read are not counters that begin anew.
    if not error.args or error.args[0] != MISSING_KEY:
        raise error


class RtcMemory:
    def __init__(self) -> None:
        self._rtc = machine.RTC()

    def load(self) -> bytes:
        return self._rtc.memory()

    def save(self, data: "bytes | memoryview") -> None:
        self._rtc.memory(data)


def _written(store: Store, key: str, limit: int = MAX_BLOB_BYTES) -> "bytes | None":
    """What provisioning wrote, None if it cannot be read: the console must open on such a bin too."""
    try:
        return store.get(key, limit)
    except OSError:
        return None


class Identity:
    """What provisioning wrote. Only what the bin's own link needs is read; a missing value is b"" or ""."""

    def __init__(self, store: Store, dev_eui: bytes) -> None:
        self.dev_eui = dev_eui
        self.link = self._text(store, "link") or "lorawan"
        self._store = store
        self.sf = 0
        if self.link == "wifi":
            self.ssid = self._text(store, "ssid")
            self.wifi_key = self._text(store, "wifi_key")
            self.mqtt_host = self._text(store, "mqtt_host")
            port = self._text(store, "mqtt_port")
            self.mqtt_port = int(port) if port.isdigit() else 8883
            self.tls_name = self._text(store, "tls_name") or self.mqtt_host
            self.ca = _written(store, "ca", MAX_CERTIFICATE_BYTES) or b""
            self.mqtt_pass = _written(store, "mqtt_pass")
            self.cert = _written(store, "cert", MAX_CERTIFICATE_BYTES) if self.mqtt_pass is None else None
            self.key = _written(store, "key", MAX_CERTIFICATE_BYTES) if self.cert else None
        else:
            self.join_eui = _written(store, "join_eui") or bytes(8)
            self.app_key = _written(store, "app_key") or b""

    @property
    def name(self) -> str:
        return self._text(self._store, "bin")

    def _text(self, store: Store, key: str) -> str:
        try:
            return (_written(store, key) or b"").decode()
        except ValueError:
            return ""


class Device:
    """See brim.core.hal.Device. Making one arms the watchdog; nothing else happens before that."""

    def __init__(self) -> None:
        self._watchdog = machine.WDT(timeout=WATCHDOG_MS)
        # CPython, where the firmware also runs in tests, has no such thing.
        if hasattr(gc, "threshold"):
            gc.threshold(COLLECT_BYTES)
        self.cold = machine.reset_cause() != machine.DEEPSLEEP_RESET
        _pin_builtins()
        from brim.boards.files import FlashFile

        self.clock = Clock()
        self.store = Store("brim")
        self.rtc = RtcMemory()
        self.flash = FlashFile(OUTBOX_FILE)
        self._identity: "Identity | None" = None

    @property
    def identity(self) -> "Identity | None":
        """None while the bin is not provisioned."""
        if self._identity is None:
            store = Store("brim_id")
            dev_eui = _written(store, "dev_eui")
            if dev_eui is not None and len(dev_eui) == 8:
                self._identity = Identity(store, dev_eui)
        return self._identity

    @property
    def budget_ms(self) -> int:
        identity = self.identity
        return WIFI_BUDGET_MS if identity and identity.link == "wifi" else LORAWAN_BUDGET_MS

    def load_settings(self) -> str:
        from brim.boards.files import read_text

        return read_text(SETTINGS_FILE, 1024)

    def save_settings(self, text: str) -> None:
        from brim.boards.files import write_text

        write_text(SETTINGS_FILE, text)

    def make_link(self, state: "bytes | None", slept_s: int, wake: "Wake") -> "Any":
        """The bin's own link; only its code is loaded."""
        identity = self.identity
        if identity is None:
            raise ValueError("no identity")
        gc.collect()
        if identity.link == "wifi":
            import network

            from brim.links.wifi_link import WifiLink

            return WifiLink(network.WLAN(network.WLAN.IF_STA), identity, self.clock)
        from os import urandom

        from brim.links.lorawan_link import LorawanLink

        settings = wake.state.settings
        identity.sf = settings["sf"]
        link = LorawanLink(
            self._radio(), state, self.store, identity, _cipher, self.clock, urandom, slept_s, not wake.hurried
        )
        if wake.battery_mv is not None:
            link.set_battery(wake.battery_mv, settings["battery_low_mv"])
        return link

    def release(self) -> None:
        """Let go of the code that only measures or reads settings; it is loaded again when it is needed again."""
        for name in MEASURING:
            if name in sys.modules:
                package, leaf = name.rsplit(".", 1)
                del sys.modules[name]
                delattr(sys.modules[package], leaf)
        gc.collect()

    def _radio(self) -> "Any":
        from brim.drivers.sx1262 import SX1262

        out, pin = machine.Pin.OUT, machine.Pin
        spi = machine.SPI(
            board.RADIO_SPI,
            baudrate=8000000,
            polarity=0,
            phase=0,
            sck=pin(board.RADIO_SCK),
            mosi=pin(board.RADIO_MOSI),
            miso=pin(board.RADIO_MISO),
        )
        dio1 = pin(board.RADIO_DIO1, pin.IN)

        def wait_dio1(timeout_ms: int) -> bool:
            """Light sleep until DIO1 is high, at most timeout_ms; whether it is high."""
            esp32.wake_on_ext0(dio1, esp32.WAKEUP_ANY_HIGH)
            machine.lightsleep(timeout_ms)
            return bool(dio1.value())

        return SX1262(
            spi,
            pin(board.RADIO_CS, out, value=1),
            pin(board.RADIO_RESET, out, value=1),
            pin(board.RADIO_BUSY, pin.IN),
            dio1,
            wait_dio1,
            self.clock,
            board.RADIO_TCXO_MV,
            board.RADIO_DIO2_RF_SWITCH,
        )

    def ranger(self, model: int) -> "Ranger":
        from brim.boards.esp32_sensors import ranger

        return ranger(model, self.clock)

    def thermometer(self) -> "Thermometer":
        from brim.boards.esp32_sensors import thermometer

        return thermometer()

    def accelerometer(self) -> "Accelerometer":
        from brim.boards.esp32_sensors import accelerometer

        return accelerometer(self.clock)

    def battery_mv(self) -> int:
        from brim.boards.esp32_sensors import battery_mv

        return battery_mv()

    def feed(self) -> None:
        self._watchdog.feed()

    def hand_over(self) -> None:
        """A person has interrupted: the watchdog gives them time."""
        self._watchdog = machine.WDT(timeout=PERSON_MS)

    def log(self, text: str) -> None:
        print(text)

    def reset_cause(self) -> int:
        return machine.reset_cause()

    def board_name(self) -> str:
        return board.NAME

    def reboot(self) -> None:
        machine.reset()

    def deepsleep(self, seconds: int) -> None:
        """Sleep 60 s .. 12 h: a negative value would sleep for ever."""
        machine.deepsleep(1000 * min(MOST_SLEEP_S, max(LEAST_SLEEP_S, seconds)))


def _pin_builtins() -> None:
    """Every `import struct` looks for a file of that name first, in every directory of the path: 140 reads of flash in
    a wake. A name in sys.modules is not looked for, and `ustruct` is the built-in itself."""
    for name in BUILTINS:
        try:
            sys.modules[name] = __import__("u" + name)
        except ImportError:
            pass  # CPython


class _cipher:
    """AES-128 in ECB over one key. cryptolib's object does one direction only, so there are two."""

    def __init__(self, key: bytes) -> None:
        from cryptolib import aes

        self.encrypt = aes(key, 1).encrypt
        self._decrypt: "Any" = None
        self._key = key

    def decrypt(self, block: bytes) -> bytes:
        from cryptolib import aes

        if self._decrypt is None:
            self._decrypt = aes(self._key, 1).decrypt
        return self._decrypt(block)  # type: ignore[no-any-return]
