"""Brim in the street cabinet: receive, keep, hand on."""
