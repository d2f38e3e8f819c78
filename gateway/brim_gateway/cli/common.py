"""What the commands share: options, errors as one line each, and the way to the daemon or the file."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from brim_gateway.config import Config

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="BRIM_CONFIG", help="The gateway's configuration file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object or list on standard output.")]
KeysFileOption = Annotated[
    Path | None, typer.Option("--keys-file", help="New file (0600) for the keys that the bins must be given.")
]
BinArgument = Annotated[str, typer.Argument(metavar="BIN", help="The city's name of the bin.")]
DEFAULT_CONFIG = Path("brim.toml")


def group(help_text: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)


@contextmanager
def errors() -> Generator[None, None, None]:
    """Errors are one line each, on standard error."""
    from brim_gateway.errors import ConfigInvalid, GatewayError, RegistryError

    try:
        yield
    except (ConfigInvalid, RegistryError) as exc:
        for line in exc.problems:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2) from None
    except GatewayError as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        raise  # `| head` has seen enough: typer ends quietly
    except OSError as exc:
        typer.echo(f"error: {exc if exc.filename is None else f'{exc.filename}: {exc.strerror}'}", err=True)
        raise typer.Exit(1) from None


def wrong_use(text: str) -> typer.Exit:
    """For ``raise wrong_use("--to: …")``: one line, exit code 2."""
    typer.echo(f"error: {text}", err=True)
    return typer.Exit(2)


def read_config(path: Path) -> Config:
    """The configuration for a command that needs no secret itself."""
    from brim_gateway.config import load

    return load(path, need_credentials=False)


def perform(config_path: Path, verb: str, **args: Any) -> Any:
    """Ask the running daemon, or work on the database where none runs."""
    from brim_gateway.offline import perform as perform_verb

    return perform_verb(read_config(config_path), verb, args)


def print_json(value: Any) -> None:
    """One line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_view(found: dict[str, Any], as_json: bool) -> None:
    """One object: a line a field, or JSON."""
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        if key == "keys":
            value = ", ".join(f"{name} {'set' if is_set else 'not set'}" for name, is_set in value.items())
        elif isinstance(value, dict):
            typer.echo(key)
            print_view({f"  {name}": one for name, one in value.items() if one not in (None, [])}, as_json)
            continue
        elif isinstance(value, list):
            value = ", ".join(_entry(one) for one in value) or None
        typer.echo(f"{key:14} {'-' if value is None else value}")


def _entry(one: object) -> str:
    return " ".join(f"{name}={value}" for name, value in one.items()) if isinstance(one, dict) else str(one)


def _open_keys_file(path: Path | None) -> Any:
    """Opened before anything is changed, so that keys are never made and then lost."""
    import os

    if path is None:
        return None
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8")
    except OSError as exc:
        raise OSError(f"{path}: {exc.strerror}; name a new file, nothing was changed") from None


@contextmanager
def keys_file(path: Path | None) -> Generator[list[dict[str, str]], None, None]:
    """Gathers keys and writes them at the end; on an error the empty file goes again."""
    out = _open_keys_file(path)
    keys: list[dict[str, str]] = []
    try:
        yield keys
    except BaseException:
        if out is not None and path is not None:
            out.close()
            path.unlink()
        raise
    if out is not None:
        with out:
            json.dump(keys, out, indent=1)
            out.write("\n")
