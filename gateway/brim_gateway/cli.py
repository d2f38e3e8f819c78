"""`brim gateway …`: the daemon and its registry, for the person who operates it.

Exit codes: 0 done, 1 it failed, 2 wrong use (also: the configuration or the bins given are not valid).
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="gateway",
    help="The gateway daemon in the street cabinet, and its registry of bins.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
bins_app = typer.Typer(help="The registry of bins.", no_args_is_help=True, rich_markup_mode=None)
keys_app = typer.Typer(
    help="Keys of bins: shown is only whether they are set.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(bins_app, name="bins")
app.add_typer(keys_app, name="keys")

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", envvar="BRIM_CONFIG", help="The gateway's configuration file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object or list on standard output.")]
KeysFileOption = Annotated[
    Path | None, typer.Option("--keys-file", help="New file (0600) for the keys that the bins must be given.")
]
BinArgument = Annotated[str, typer.Argument(metavar="BIN", help="The city's name of the bin.")]
DEFAULT_CONFIG = Path("brim.toml")


@contextmanager
def _errors() -> Generator[None, None, None]:
    """Errors are one line each, on standard error."""
    from brim_gateway.errors import ConfigInvalid, GatewayError, RegistryError

    try:
        yield
    except (ConfigInvalid, RegistryError) as exc:
        for line in exc.problems:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2) from None
    except (GatewayError, OSError) as exc:
        typer.echo(f"error: {exc}", err=True)
        raise typer.Exit(1) from None


def _perform(config_path: Path, verb: str, **args: Any) -> Any:
    from brim_gateway.config import load
    from brim_gateway.offline import perform

    return perform(load(config_path), verb, args)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


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
def _keys_file(path: Path | None) -> Generator[list[dict[str, str]], None, None]:
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


@app.command()
def init(
    config: ConfigOption = DEFAULT_CONFIG,
    site: Annotated[str, typer.Option(help="Name of this cabinet; part of every topic.")] = "cabinet-001",
    data_dir: Annotated[str, typer.Option(help="Where the database and the certificates go.")] = "data",
    tls_name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or address by which Wi-Fi bins reach us; repeatable."),
    ] = None,
    wifi: Annotated[str | None, typer.Option(help="HOST:PORT to let Wi-Fi bins in at once, e.g. 0.0.0.0:8883.")] = None,
    output_url: Annotated[str | None, typer.Option(help="The city's broker, e.g. mqtts://broker.example.org.")] = None,
    output_user: Annotated[str | None, typer.Option(help="User name at that broker.")] = None,
    output_password_file: Annotated[str | None, typer.Option(help="File (0600) with the password.")] = None,
) -> None:
    """Write a configuration that runs as it is, and the site's own certificates.

    Example: brim gateway init --site cabinet-017 --output-url mqtts://broker.example.org
    """
    with _errors():
        from brim_gateway.setup_files import Wanted, write_setup

        wanted = Wanted(site, data_dir, tuple(tls_name or ()), output_url, output_user, output_password_file, wifi)
        for path in write_setup(config, wanted):
            typer.echo(f"wrote {path}")
        typer.echo(f"next: brim gateway check --config {config} && brim gateway run --config {config}")


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the gateway until SIGTERM. One line "ready …" on standard output tells its addresses.

    Example: brim gateway run --config brim.toml
    """
    with _errors():
        import asyncio

        from brim_gateway.app import serve
        from brim_gateway.config import load
        from brim_gateway.logs import set_up

        loaded = load(config)
        set_up(loaded.log_format)
        asyncio.run(serve(loaded))


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Name every mistake in a configuration at once, each with its line.

    Example: brim gateway check --config brim.toml
    """
    from brim_gateway.config import load
    from brim_gateway.errors import ConfigInvalid

    try:
        loaded = load(config)
    except ConfigInvalid as exc:
        if as_json:
            _print_json({"valid": False, "problems": exc.problems})
        for line in [] if as_json else exc.problems:
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(2) from None
    if as_json:
        _print_json({"valid": True, "problems": []})
    else:
        typer.echo(f"{config}: valid. Site {loaded.site}, {len(loaded.outputs)} output(s).")


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """What the gateway is doing. Exit code 1 where no daemon runs or it is not healthy.

    Example: brim gateway status --json
    """
    with _errors():
        now = _perform(config, "status")
        if as_json:
            _print_json(now)
        else:
            _print_status(now)
    if not now.get("healthy"):
        raise typer.Exit(1)


def _print_status(now: dict[str, Any]) -> None:
    running = now["running"]
    health = (
        "no daemon runs" if not running else f"{'healthy' if now['healthy'] else 'NOT HEALTHY'} since {now['since']}"
    )
    typer.echo(f"{now['site']}: {health}")
    typer.echo(f"bins {now['bins']}, readings in the journal {now['journal']['rows']}")
    for reason, count in sorted(now.get("refused", {}).items()):
        typer.echo(f"refused, {reason}: {count}")
    for output in now["outputs"]:
        link = "" if not running else ", connected" if output["connected"] else ", NOT CONNECTED"
        fault = f" (last fault: {output['last_fault']})" if output.get("last_fault") else ""
        typer.echo(f"output {output['name']}: {output['waiting']} waiting{link}{fault}")


@bins_app.command("add")
def bins_add(
    name: Annotated[str, typer.Argument(metavar="BIN", help="The city's name of the bin, e.g. SE-0180-04711.")],
    config: ConfigOption = DEFAULT_CONFIG,
    keys_file: KeysFileOption = None,
    dev: Annotated[str | None, typer.Option(help="EUI-64 of its device; made here if left out.")] = None,
    link: Annotated[str | None, typer.Option(help="lorawan or wifi.")] = None,
    empty_mm: Annotated[int | None, typer.Option(help="Distance to the bottom of the empty bin.")] = None,
    full_mm: Annotated[int | None, typer.Option(help="Distance at which it counts as full.")] = None,
    lat: Annotated[float | None, typer.Option(help="Degrees north.")] = None,
    lon: Annotated[float | None, typer.Option(help="Degrees east.")] = None,
    decoder: Annotated[str | None, typer.Option(help="brim or ascii-distance-cm.")] = None,
    counter: Annotated[str | None, typer.Option(help="strict, or volatile for a device that forgets it.")] = None,
    allow_public_key: Annotated[
        bool, typer.Option("--allow-public-key", help="Unsafe: take a key from a book.")
    ] = False,
    join_eui: Annotated[str | None, typer.Option(help="JoinEUI, 16 hexadecimal digits.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register one bin and make its keys. Imported keys come in by `bins import`, never on a command line.

    Example: brim gateway bins add SE-0180-04711 --link wifi --keys-file 04711.json
    """
    given = {
        "bin": name, "dev": dev, "link": link, "empty_mm": empty_mm, "full_mm": full_mm, "lat": lat, "lon": lon,
        "decoder": decoder, "counter": counter, "allow_public_key": "true" if allow_public_key else None,
        "join_eui": join_eui,
    }  # fmt: skip
    row = {key: str(value) for key, value in given.items() if value is not None}
    with _errors(), _keys_file(keys_file) as keys:
        added = _perform(config, "bins.add", rows=[[name, row]])
        keys += added.pop("keys")
        _report_added(added, keys_file, as_json)


@bins_app.command("import")
def bins_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="CSV with a header; only the column bin is required.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    keys_file: KeysFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register many bins, all or none. Columns: bin, dev, link, empty_mm, full_mm, lat, lon, decoder, counter,
    allow_public_key, dev_addr, nwk_s_key, app_s_key, app_key, join_eui, mqtt_password.

    Example: brim gateway bins import bins.csv --keys-file keys.json
    """
    with _errors():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            from brim_gateway.errors import RegistryError

            raise RegistryError([f"{file}: not UTF-8 text"]) from None
        with _keys_file(keys_file) as keys:
            added = _perform(config, "bins.import", csv=text)
            keys += added.pop("keys")
            _report_added(added, keys_file, as_json)


def _report_added(added: dict[str, Any], keys_file: Path | None, as_json: bool) -> None:
    for text in added["warnings"]:
        typer.echo(f"warning: {text}", err=True)
    if as_json:
        _print_json(added)
        return
    for one in added["bins"] if len(added["bins"]) <= 10 else []:
        typer.echo(f"registered {one['bin']}: {one['link']}, device {one['dev']}")
    if len(added["bins"]) > 10:
        typer.echo(f"registered {len(added['bins'])} bins")
    where = f"keys: {keys_file} (0600)" if keys_file else "keys: in the database only; see `brim gateway keys replace`"
    typer.echo(where)


@bins_app.command("list")
def bins_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Every bin with its fill and last contact.

    Example: brim gateway bins list
    """
    with _errors():
        found = _perform(config, "bins.list")
        if as_json:
            _print_json(found)
            return
        for one in found:
            fill = "-" if one["fill_pct"] is None else f"{one['fill_pct']} %"
            typer.echo(f"{one['bin']:24} {one['dev']} {one['link']:8} {fill:>6}  {one['last_contact'] or 'never'}")
        if not found:
            typer.echo("no bins; add one with `brim gateway bins add`")


@bins_app.command("show")
def bins_show(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Everything known of one bin, but no secret.

    Example: brim gateway bins show SE-0180-04711
    """
    with _errors():
        _show(_perform(config, "bins.show", bin=name), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    for key, value in found.items():
        if key == "keys":
            value = ", ".join(f"{name} {'set' if is_set else 'not set'}" for name, is_set in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value)) or None
        typer.echo(f"{key:14} {'-' if value is None else value}")


@bins_app.command("remove")
def bins_remove(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Forget a bin and its keys. Its readings stay in the journal.

    Example: brim gateway bins remove SE-0180-04711
    """
    with _errors():
        gone = _perform(config, "bins.remove", bin=name)
        if as_json:
            _print_json(gone)
        else:
            typer.echo(f"removed {gone['bin']} (device {gone['dev']})")


@keys_app.command("show")
def keys_show(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Which keys of a bin are set.

    Example: brim gateway keys show SE-0180-04711
    """
    with _errors():
        found = _perform(config, "bins.show", bin=name)
        _show({"bin": found["bin"], "dev": found["dev"], "keys": found["keys"]}, as_json)


@keys_app.command("replace")
def keys_replace(
    name: BinArgument,
    keys_file: Annotated[Path, typer.Option("--keys-file", help="New file (0600) for the new keys.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make new keys for a bin; the old ones end at once.

    Example: brim gateway keys replace SE-0180-04711 --keys-file 04711.json
    """
    with _errors(), _keys_file(keys_file) as keys:
        done = _perform(config, "keys.replace", bin=name)
        keys += done.pop("keys")
        if as_json:
            _print_json(done)
        else:
            typer.echo(f"new keys of {done['bin']}: {keys_file} (0600)")


@app.command()
def play(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Recorded receptions, one row a frame.")],
    to: Annotated[str, typer.Option(help="HOST:PORT of a running gateway's UDP socket.")] = "127.0.0.1:1700",
    as_json: JsonOption = False,
) -> None:
    """Play recorded LoRaWAN receptions into a running gateway, as a packet forwarder would send them.

    For the recorded time to be the event time, that gateway needs trust_time = true under [udp].

    Example: brim gateway play dtu_2016_lorawan_frames.csv --to 127.0.0.1:1700
    """
    from brim_gateway.play import RecordingInvalid
    from brim_gateway.play import play as play_recording

    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        typer.echo('error: --to: must be HOST:PORT, e.g. "127.0.0.1:1700"', err=True)
        raise typer.Exit(2)
    with _errors():
        try:
            account = play_recording(file, host.strip("[]"), int(port))
        except RecordingInvalid as exc:
            typer.echo(f"error: {exc}", err=True)
            raise typer.Exit(2) from None
        if as_json:
            _print_json(account.as_dict())
        else:
            typer.echo(
                f"{account.acknowledged} frames acknowledged in {account.seconds} s"
                f" ({account.without_frame} rows without a frame left out, {account.resent} sent again)"
            )


def main() -> None:
    """For `python -m brim_gateway.cli`."""
    app(prog_name="brim gateway")


if __name__ == "__main__":
    main()
