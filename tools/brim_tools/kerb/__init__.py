"""The technician's commands: a laptop, a cable, a bin."""
