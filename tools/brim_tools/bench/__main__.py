"""`python -m brim_tools.bench NAME --json`."""

from brim_tools.bench.cli import app

app(prog_name="python -m brim_tools.bench")
