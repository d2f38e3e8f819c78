"""The LoRaWAN network server of one site: pure logic, no socket, no clock, no database."""
