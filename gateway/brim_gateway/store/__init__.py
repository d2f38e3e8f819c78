"""The journal and the registry: one SQLite file, one thread that writes."""
