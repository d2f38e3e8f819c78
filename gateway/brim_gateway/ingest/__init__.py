"""How readings come into the gateway."""
