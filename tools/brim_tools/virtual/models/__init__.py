"""Chip models at their registers, on the host side of the wire. Modelled from datasheets, not measured."""
