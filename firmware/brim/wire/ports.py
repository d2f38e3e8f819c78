"""LoRaWAN FPorts (1..223 belong to the application, LoRaWAN 1.0.4, 4.3.2)."""

PORT_REPORT = 1
PORT_COMMAND = 2
