"""`brim gateway decode`: a LoRaWAN frame explained. Needs no configuration and no daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from brim_gateway.cli.common import JsonOption, errors, print_json, wrong_use

app = typer.Typer()

_KEYS_FILE_MOST = 4_096
_LINE_MOST = 16_384


@app.command()
def decode(
    frame: Annotated[str | None, typer.Argument(metavar="HEX", help="The whole PHYPayload in hexadecimal.")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="JSON object with any of app_key, nwk_s_key, app_s_key (hex) and f_cnt, the last known counter.",
        ),
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help='One {"hex": …, "keys": {…}} a line; the answer has one JSON object a line.',
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a LoRaWAN frame: its fields, whether its MIC holds, its payload decrypted.

    A wrong key is no error: mic_ok is then false. Exit code 1 where it is no frame, in a batch where one line is none.

    Example: brim gateway decode 40f17dbe4900020001954378762b11ff0d --keys keys.json --json
    """
    if (frame is None) == (batch is None):
        raise wrong_use("give HEX, or --batch FILE.jsonl")
    with errors():
        from brim.lorawan.frames import FrameError

        from brim_gateway.errors import GatewayError
        from brim_gateway.network.explain import Keys, KeysInvalid, explain, phy_from

        try:
            known = Keys() if keys is None else _read_keys(keys)
            if batch is not None:
                _run_batch(batch, known)
                return
            found = explain(phy_from(frame), known)
        except FrameError as exc:
            raise GatewayError(f"no frame: {exc}") from None
        except KeysInvalid as exc:
            raise GatewayError(f"{keys}: {exc}") from None
    if as_json:
        print_json(found)
    else:
        for line in _table(found):
            typer.echo(line)


def _read_keys(path: Path) -> Any:
    from brim_gateway.network.explain import KeysInvalid, keys_from

    with path.open("rb") as file:
        text = file.read(_KEYS_FILE_MOST + 1)
    if len(text) > _KEYS_FILE_MOST:
        raise KeysInvalid("keys: too long for a file of keys")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Without the parser's words: they may quote what stands there.
        raise KeysInvalid("keys: not JSON") from None
    return keys_from(value)


def _run_batch(path: Path, default: Any) -> None:
    """One answer a line, in the order of the lines; raises Exit 1 at the end where a line was no frame."""
    failed = False
    with path.open("rb") as file:
        for line in _lines(file):
            found = _explain_line(line, default)
            failed = failed or "error" in found
            print_json(found)
    if failed:
        raise typer.Exit(1)


def _lines(file: Any) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is too long to be one of ours."""
    while line := file.readline(_LINE_MOST):
        whole = line
        while not whole.endswith(b"\n") and (whole := file.readline(_LINE_MOST)):
            line = None
        yield line


def _explain_line(line: bytes | None, default: Any) -> dict[str, Any]:
    from brim.lorawan.frames import FrameError

    from brim_gateway.network.explain import KeysInvalid, explain, keys_from, phy_from

    try:
        value = json.loads(line or b"")
    except (ValueError, RecursionError):
        return {"error": "not a line of JSON"}
    if not isinstance(value, dict):
        return {"error": "not a JSON object"}
    try:
        given = value.get("keys")
        return explain(phy_from(value.get("hex")), default if given is None else keys_from(given))
    except FrameError as exc:
        return {"error": f"no frame: {exc}"}
    except KeysInvalid as exc:
        return {"error": str(exc)}


def _table(found: dict[str, Any]) -> Iterator[str]:
    """A line a field; MAC commands a line each."""
    for name, value in found.items():
        if name in ("f_opts_explained", "mac_commands"):
            for command in value or ():
                fields = " ".join(f"{field}={_word(one)}" for field, one in command["fields"].items())
                yield f"{'':18} {command['name']} ({command['hex']}) {fields}".rstrip()
            continue
        if isinstance(value, dict):
            value = " ".join(flag for flag, is_set in value.items() if is_set) or None
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or None
        yield f"{name:18} {_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else str(value)
