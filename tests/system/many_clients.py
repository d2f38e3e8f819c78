"""Wi-Fi bins that all come at the same moment, as after a power cut: a program of its own, for test_many_bins.

`python many_clients.py JSON` with {"port", "ca", "logins": [[dev, password], …]}; prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from typing import Any

from brim_gateway.mqtt import server_codec as mqtt

WITHIN_S = 60.0


def connect_packet(dev: str, password: str) -> bytes:
    body = b"\x00\x04MQTT\x04\xc2\x00\x3c"
    for text in (dev, dev, password):
        body += len(text).to_bytes(2, "big") + text.encode()
    return b"\x10" + bytes((len(body),)) + body


async def one(given: dict[str, Any], context: ssl.SSLContext, dev: str, password: str) -> dict[str, Any]:
    """Connect, publish one reading, hear its PUBACK, go. Seconds from the start, or what went wrong."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", given["port"], ssl=context, server_hostname="localhost", ssl_handshake_timeout=WITHIN_S
            )
            writer.write(connect_packet(dev, password))
            connack = await reader.readexactly(4)
            if connack[3]:
                return {"fault": f"CONNACK {connack[3]}"}
            reading = json.dumps({"epoch": 1, "seq": 1, "status": "ok", "distance_mm": 500}).encode()
            writer.write(mqtt.publish(4, f"brim/bin/{dev}/up", reading, 1, 1))
            if await reader.readexactly(4) != mqtt.puback(4, 1):
                return {"fault": "no PUBACK"}
            taken_s = time.monotonic() - began
            writer.write(b"\xe0\x00")
            writer.close()
            return {"dev": dev, "taken_s": taken_s}
    except (OSError, EOFError, TimeoutError) as exc:
        return {"fault": f"{type(exc).__name__}: {exc}"}


async def rush(given: dict[str, Any]) -> list[dict[str, Any]]:
    context = ssl.create_default_context(cafile=given["ca"])
    return await asyncio.gather(*(one(given, context, dev, password) for dev, password in given["logins"]))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(rush(json.loads(sys.argv[1])))), flush=True)
