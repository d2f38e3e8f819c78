"""What comes in: concentrators by UDP, Wi-Fi bins by MQTT."""
