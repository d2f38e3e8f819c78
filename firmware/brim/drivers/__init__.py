"""One chip a file: parsing is pure; pins, buses and power are handed in by the board."""
