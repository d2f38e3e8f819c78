"""The bin's behaviour: pure, imports on any Python. Chips, clocks, files and links are handed in."""
