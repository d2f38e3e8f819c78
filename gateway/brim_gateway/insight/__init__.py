"""What follows from the readings. Everything here can be rebuilt from the journal."""
