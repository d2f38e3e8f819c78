"""`python -m tests.interop.report`: runs every test in this folder and writes README.md, with the oracles' versions."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.interop.oracles import HERE, Oracle, oracles

REPORT = HERE / "README.md"

_ABOUT = """\
# What strangers say about our LoRaWAN
Both ends are ours, so agreeing with ourselves proves nothing. Here implementations that nobody of Brim wrote take part:
they read what we write, write what we read, and play the other end of whole sessions. They are used in tests only.
The recorded vectors of others (`tests/data/lorawan`) are checked in `tests/gateway/network/` and `tests/device/`.

```
python -m tests.interop.report     # runs everything here and writes this file
```
"""
_LIMITS = """\
## Known of the oracles
- `lora-packet` leaves a placeholder where the MIC of a frame without a payload belongs: such frames of its making are
  not used. Of our making it reads and verifies them.
- `liblora` holds an EUI as a signed number, so the EUIs here begin with a zero bit; it reads MaxDC of DutyCycleReq as
  signed; its time on air is up to 1 us longer, from rounding a float.
- No ChirpStack and no The Things Stack can be installed from a package index, so none was run.
"""


def write(date: str, found: list[Oracle], outcomes: dict[str, dict[str, int]]) -> str:
    """The report's text. ``outcomes``: file -> {"passed", "failed"}."""
    lines = [_ABOUT, f"Last run: {date}, Python {platform.python_version()}.\n", "## Oracles", ""]
    lines += ["| implementation | version | what it is | what it checks |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.found or 'not installed'} | {one.origin} | {one.checks} |" for one in found]
    lines += ["", "## Tests", "", "| file | passed | failed |", "|---|---|---|"]
    lines += [f"| `{name}` | {count['passed']} | {count['failed']} |" for name, count in sorted(outcomes.items())]
    return "\n".join([*lines, "", _LIMITS])


def run() -> tuple[dict[str, dict[str, int]], int]:
    """Passed and failed by file, and pytest's exit code."""
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.xml"
        root = HERE.parents[1]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={result}", str(HERE)]
        code = subprocess.run(command, cwd=root).returncode
        outcomes: dict[str, dict[str, int]] = {}
        for case in ElementTree.parse(result).iter("testcase"):  # noqa: S314 - written by our own pytest
            count = outcomes.setdefault(case.attrib["classname"].split(".")[-1] + ".py", {"passed": 0, "failed": 0})
            count["failed" if len(case) else "passed"] += 1
    return outcomes, code


def main() -> int:
    outcomes, code = run()
    REPORT.write_text(write(time.strftime("%Y-%m-%d"), oracles(), outcomes), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
