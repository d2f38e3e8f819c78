"""Brim on the bin: the device side and every format that both ends must agree on."""
