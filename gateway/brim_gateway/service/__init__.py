"""The systemd unit, packaged."""
