"""MQTT packets, pure: bytes in, values out, and back."""
