"""The demonstration: virtual bins on real MicroPython, a real gateway, a real broker, and an account at the end."""
