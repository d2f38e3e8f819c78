"""Faults by who is concerned. On the bin a fault is data: it is logged, reported as a status and ends no wake."""


class Fault(Exception):
    """Base of all faults; the message is a short name, e.g. "ranger"."""


class SensorFault(Fault):
    """A sensor is absent, silent or talks nonsense."""


class RadioFault(Fault):
    """The radio chip does not do what it was told."""
