"""Payload to readings, one file a maker or format."""
