"""Brim on the laptop: the technician's commands, the virtual bins, the demo."""
