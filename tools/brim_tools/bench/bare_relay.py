"""The relay that most people write: subscribe here, publish there. It keeps nothing. A yardstick, not a product.

`python -m brim_tools.bench.bare_relay SOUTH_PORT NORTH_PORT`: from `in/#` to `out/#`, QoS 1 on both sides.
"""

from __future__ import annotations

import signal
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def main(south_port: int, north_port: int) -> None:
    north = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare-north")
    north.max_inflight_messages_set(100)
    north.connect_async("127.0.0.1", north_port)  # also while nobody listens there
    north.loop_start()
    south = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare-south", clean_session=False)

    def hand_on(client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        north.publish("out" + message.topic[2:], message.payload, qos=1)

    south.on_message = hand_on
    south.on_subscribe = lambda *_: print("ready", flush=True)
    south.on_connect = lambda client, *_: client.subscribe("in/#", qos=1)
    south.connect("127.0.0.1", south_port)
    signal.signal(signal.SIGTERM, lambda *_: south.disconnect())
    south.loop_forever()
    north.loop_stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
