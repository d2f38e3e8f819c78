"""What goes out to the city, each output with its own cursor."""
