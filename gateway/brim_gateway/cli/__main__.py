"""`python -m brim_gateway.cli …` is `brim gateway …`."""

from brim_gateway.cli import main

if __name__ == "__main__":
    main()
