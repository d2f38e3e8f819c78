"""paho as a bin. One line on standard output for each step; the test reads them."""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def reading(seq: int) -> bytes:
    return json.dumps({"epoch": 1, "seq": seq, "status": "ok", "distance_mm": 500}).encode()


def main(given: dict[str, Any]) -> None:
    events: queue.Queue[tuple[str, Any]] = queue.Queue()

    def connect() -> paho.Client:
        version = MQTTProtocolVersion(given["version"])
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=given["dev"], protocol=version)
        client.username_pw_set(given["dev"], given["password"])
        if given["ca"]:
            client.tls_set(given["ca"])
        client.on_connect = lambda _, __, ___, reason, ____: events.put(("connected", reason.is_failure))
        client.on_publish = lambda _, __, mid, ___, ____: events.put(("published", mid))
        client.on_subscribe = lambda _, __, ___, codes, ____: events.put(("subscribed", codes[0].value))
        client.on_message = lambda _, __, message: events.put(("message", message.payload.hex()))
        client.on_disconnect = lambda *_: events.put(("gone", None))
        client.connect("localhost", given["port"])
        client.loop_start()
        assert events.get(timeout=10) == ("connected", False)
        print("connected", flush=True)
        return client

    def publish(client: paho.Client, seq: int) -> None:
        mid = client.publish(f"brim/bin/{given['dev']}/up", reading(seq), qos=1).mid
        assert events.get(timeout=30) == ("published", mid)
        print(f"acknowledged {seq}", flush=True)

    client = connect()
    publish(client, 1)
    client.disconnect()
    assert events.get(timeout=10)[0] == "gone"
    client.loop_stop()
    client = connect()
    publish(client, 2)
    client.subscribe(f"brim/bin/{given['dev']}/down", 1)
    kind, value = events.get(timeout=10)
    print(f"{kind} {value}", flush=True)
    kind, value = events.get(timeout=10)
    assert kind == "message"
    print(f"command {value}", flush=True)
    client.publish(f"brim/bin/{given['other']}/up", reading(3), qos=1)
    assert events.get(timeout=10)[0] == "gone"
    print("refused", flush=True)
    client.loop_stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
