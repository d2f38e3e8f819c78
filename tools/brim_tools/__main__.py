"""`python -m brim_tools` is `brim`."""

from brim_tools.cli import main

main()
