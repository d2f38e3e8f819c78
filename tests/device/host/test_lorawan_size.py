"""How large the MAC is as it is shipped."""

from brim_tools.virtual.firmware_image import compile_mpy

from tests.test_house import ROOT

MOST_BYTES = 16 * 1024


def test_the_mac_is_at_most_16_kib_of_bytecode(tmp_path):
    sizes = {}
    for path in sorted((ROOT / "firmware/brim/lorawan").glob("*.py")):
        out = tmp_path / f"{path.stem}.mpy"
        compile_mpy(path.read_text(), out, f"brim/lorawan/{path.name}")
        sizes[path.stem] = out.stat().st_size
    print(f"\n{sum(sizes.values())} bytes: {sizes}")
    assert {"mac", "memory", "mac_commands", "frames", "crypto", "ledger"} <= set(sizes)
    assert sum(sizes.values()) <= MOST_BYTES
