"""Everything that hears strangers, by the words of --only."""

from __future__ import annotations

from typing import Any

from tests.faults import fuzz_lorawan, fuzz_mqtt, fuzz_texts, fuzz_udp

# word of --only -> its targets, each with its share of the inputs
TARGETS: dict[str, tuple[tuple[type[Any], float], ...]] = {
    "listener": ((fuzz_mqtt.ListenerParser, 0.2), (fuzz_mqtt.ListenerSession, 0.12), (fuzz_mqtt.ListenerLive, 0.03)),
    "udp": ((fuzz_udp.Udp, 0.15), (fuzz_udp.UdpLive, 0.05)),
    "lorawan": ((fuzz_lorawan.LorawanServer, 0.3), (fuzz_lorawan.LorawanDevice, 0.3)),
    "control": ((fuzz_texts.Control, 0.05),),
    "config": ((fuzz_texts.ConfigText, 0.05),),
    "decoder": ((fuzz_texts.Decoder, 0.2),),
    "client_codec": ((fuzz_mqtt.ClientCodec, 0.15),),
}
