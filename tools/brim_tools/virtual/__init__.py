"""Virtual bins: the real firmware on real MicroPython; only the chips around it are modelled."""
