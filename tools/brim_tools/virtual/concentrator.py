"""A LoRa concentrator and the Semtech packet forwarder beside it (PROTOCOL.TXT, header version 2).

Written from the protocol, not from the gateway's code: the two must agree on the wire only.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
from collections.abc import Callable
from typing import Any

from brim_tools.virtual.ether import PUBLIC_SYNC_WORD, Ether, Transmission, time_on_air_us
from brim_tools.virtual.world import World

TMST_MODULO = 1 << 32
# A late downlink is refused: the concentrator must be armed this long before the frame leaves (JIT queue).
JIT_MARGIN_US = 30_000
JIT_MAX_ADVANCE_US = 130 * 1_000_000
PULL_INTERVAL_US = 2_000_000
_DATARATE_BW = {"125": 125_000, "250": 250_000, "500": 500_000}


class Concentrator:
    """Eight channels and every spreading factor at once, one transmitter, one 32-bit microsecond counter."""

    def __init__(self, world: World, ether: Ether, eui: str, *, tmst_start: int = 0) -> None:
        self.name = eui
        self._world = world
        self._ether = ether
        self._tmst_start = tmst_start
        self._on_air: list[tuple[int, int]] = []
        self.on_rxpk: Callable[[dict[str, Any]], None] = lambda rxpk: None
        self.refused: dict[str, int] = {}
        self.transmitted = 0
        ether.add_concentrator(self)

    def tmst(self, time_us: int) -> int:
        return (time_us + self._tmst_start) % TMST_MODULO

    def hears(self, transmission: Transmission) -> bool:
        return not any(a < transmission.end_us and transmission.start_us < b for a, b in self._on_air)

    def received(self, transmission: Transmission, rssi_dbm: float, snr_db: float) -> None:
        self.on_rxpk(
            {
                "tmst": self.tmst(transmission.end_us),
                "chan": (transmission.freq_hz // 200_000) % 8,
                "rfch": 0,
                "freq": transmission.freq_hz / 1e6,
                "stat": 1,
                "modu": "LORA",
                "datr": f"SF{transmission.sf}BW{transmission.bw_hz // 1000}",
                "codr": "4/5",
                "lsnr": snr_db,
                "rssi": int(rssi_dbm),
                "size": len(transmission.payload),
                "data": base64.b64encode(transmission.payload).decode(),
            }
        )

    def enqueue(self, txpk: dict[str, Any]) -> str:
        """Take a downlink into the JIT queue; returns the TX_ACK error name, "NONE" where it was taken."""
        error = self._enqueue(txpk)
        if error != "NONE":
            self.refused[error] = self.refused.get(error, 0) + 1
        return error

    def _enqueue(self, txpk: dict[str, Any]) -> str:
        now_us = self._world.now_us
        if txpk.get("modu", "LORA") != "LORA":
            return "NONE"  # FSK leaves the antenna, and no bin of ours listens for it
        payload = base64.b64decode(txpk["data"] + "=" * (-len(txpk["data"]) % 4))
        sf_text, bw_text = txpk["datr"][2:].split("BW")
        sf, bw_hz, freq_hz = int(sf_text), _DATARATE_BW[bw_text], round(float(txpk["freq"]) * 1e6)
        if "tmst" not in txpk and not txpk.get("imme"):
            return "GPS_UNLOCKED"
        delay_us = 0 if txpk.get("imme") else (int(txpk["tmst"]) - self.tmst(now_us)) % TMST_MODULO
        if delay_us > TMST_MODULO // 2 or (not txpk.get("imme") and delay_us < JIT_MARGIN_US):
            return "TOO_LATE"
        if delay_us > JIT_MAX_ADVANCE_US:
            return "TOO_EARLY"
        if not 863_000_000 <= freq_hz <= 870_000_000:
            return "TX_FREQ"
        if not 0 <= int(txpk.get("powe", 14)) <= 27:
            return "TX_POWER"
        crc = not txpk.get("ncrc", False)
        start_us = now_us + delay_us
        end_us = start_us + time_on_air_us(len(payload), sf, bw_hz, crc=crc, ldro=sf >= 11)
        if any(a < end_us + JIT_MARGIN_US and start_us < b + JIT_MARGIN_US for a, b in self._on_air):
            return "COLLISION_PACKET"
        self._on_air = [(a, b) for a, b in self._on_air if b > now_us - 10_000_000] + [(start_us, end_us)]
        transmission = Transmission(
            sender=self.name,
            start_us=start_us,
            end_us=end_us,
            freq_hz=freq_hz,
            sf=sf,
            bw_hz=bw_hz,
            power_dbm=float(txpk.get("powe", 14)),
            iq_inverted=bool(txpk.get("ipol", False)),
            crc=crc,
            sync_word=PUBLIC_SYNC_WORD,
            payload=payload,
        )
        self._world.at(start_us, lambda: self._begin(transmission))
        return "NONE"

    def _begin(self, transmission: Transmission) -> None:
        self.transmitted += 1
        self._ether.transmit(transmission)


class PacketForwarder:
    """Speaks for one concentrator to a gateway over UDP. As in the protocol, a PUSH_DATA is sent once."""

    def __init__(self, world: World, concentrator: Concentrator, gateway: tuple[str, int]) -> None:
        self._world = world
        self._concentrator = concentrator
        self._gateway = gateway
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.pushed = self.push_acked = self.pulled = 0
        concentrator.on_rxpk = self.push
        world.watch(self._socket, self._readable)
        self._pull()

    def _header(self, kind: int, token: bytes) -> bytes:
        return b"\x02" + token + bytes([kind]) + bytes.fromhex(self._concentrator.name)

    def push(self, rxpk: dict[str, Any]) -> None:
        self.pushed += 1
        self._send(self._header(0, secrets.token_bytes(2)) + json.dumps({"rxpk": [rxpk]}).encode())

    def _pull(self) -> None:
        self._send(self._header(2, secrets.token_bytes(2)))
        self._world.after(PULL_INTERVAL_US, self._pull)

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._gateway)
        except OSError:
            pass  # nobody listens: a forwarder does not notice either

    def _readable(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(65536)
            except OSError:
                return
            if len(datagram) < 4 or datagram[0] != 2:
                continue
            token, kind = datagram[1:3], datagram[3]
            if kind == 1:
                self.push_acked += 1
            elif kind == 4:
                self.pulled += 1
            elif kind == 3:
                self._on_pull_resp(token, datagram[4:])

    def _on_pull_resp(self, token: bytes, body: bytes) -> None:
        try:
            error = self._concentrator.enqueue(json.loads(body)["txpk"])
        except (ValueError, KeyError, TypeError):
            return  # the real forwarder logs it and sends no TX_ACK
        self._send(self._header(5, token) + json.dumps({"txpk_ack": {"error": error}}).encode())

    def close(self) -> None:
        self._world.unwatch(self._socket)
        self._socket.close()
