"""The one error of every codec in this package."""


class WireError(ValueError):
    """Bytes or values that are not in the format. The message says what, never the content."""
