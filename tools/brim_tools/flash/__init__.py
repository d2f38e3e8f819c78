"""From the firmware's source to what lies on a bin."""
