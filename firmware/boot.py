"""Nothing on purpose: a watchdog armed here would reset a board whose main.py a technician has interrupted."""
