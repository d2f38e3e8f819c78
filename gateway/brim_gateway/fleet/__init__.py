"""Orders to bins, over either link."""
