"""LoRaWAN 1.0.4 Class A as pure logic: no I/O, no clock. The cipher is injected."""
