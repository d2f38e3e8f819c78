"""The gateway's errors. The name says who must act."""

from __future__ import annotations


class GatewayError(Exception):
    """Base: one line, what is wrong, where, what to do."""


class ConfigInvalid(GatewayError):
    """The operator must mend the configuration. ``problems`` holds every error found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class StoreFault(GatewayError):
    """The disk or the database file needs attention; nothing was acknowledged."""


class RegistryError(GatewayError):
    """The caller gave bins or keys that cannot be taken. ``problems`` holds every error found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class DecodeError(GatewayError):
    """A payload that is not what its decoder reads. The device's maker or its registration must change."""
