"""`brim`: one program. Each group of commands is imported only when it is called, so that a technician's laptop
needs nothing of the gateway and a cabinet nothing of the simulator."""

from __future__ import annotations

import importlib
import sys

# name -> (module, attribute, extra of the package that it needs, one line of help)
GROUPS = {
    "demo": ("brim_tools.demo.cli", "app", "sim", "Virtual bins, a gateway and a city backend on this machine."),
    "gateway": ("brim_gateway.cli", "app", "gateway", "The daemon in the street cabinet and its registry."),
    "bin": ("brim_tools.kerb.cli", "app", "kerb", "The technician's commands for one bin."),
}


def main() -> None:
    """Entry point: `brim GROUP ...`. Exit code 2 for wrong use."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print("Usage: brim GROUP COMMAND [OPTIONS]\n\nConnected litter bins: firmware, gateway, tools.\n")
        for name, (_, _, _, text) in GROUPS.items():
            print(f"  {name:8} {text}")
        print("\nExample: brim demo --once --bins 6\nEach group and command has --help.")
        return
    if arguments[0] not in GROUPS:
        print(f"brim: no command group {arguments[0][:40]!r}; there are {', '.join(GROUPS)}", file=sys.stderr)
        raise SystemExit(2)
    module, attribute, extra, _ = GROUPS[arguments[0]]
    try:
        app = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] in ("brim", "brim_gateway", "brim_tools"):
            raise
        print(f"brim: {missing.name} is not installed: pip install 'brim[{extra}]'", file=sys.stderr)
        raise SystemExit(1) from None
    app(args=arguments[1:], prog_name=f"brim {arguments[0]}")
