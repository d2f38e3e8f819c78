"""The registry of bins: add, import, list, show, remove, unknown, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from brim_gateway.cli.common import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    KeysFileOption,
    errors,
    group,
    perform,
    print_json,
    print_view,
)
from brim_gateway.cli.common import keys_file as keys_file_of

app = group("The registry of bins.")
ShapeOption = Annotated[
    int | None,
    typer.Option(
        help="For a bin that is no prism: what a quarter, half and three quarters of its height hold, in permille,"
        " three digits each: 150350620."
    ),
]


@app.command("add")
def bins_add(
    name: Annotated[str, typer.Argument(metavar="BIN", help="The city's name of the bin, e.g. SE-0180-04711.")],
    config: ConfigOption = DEFAULT_CONFIG,
    keys_file: KeysFileOption = None,
    dev: Annotated[str | None, typer.Option(help="EUI-64 of its device; made here if left out.")] = None,
    link: Annotated[str | None, typer.Option(help="lorawan or wifi.")] = None,
    empty_mm: Annotated[int | None, typer.Option(help="Distance to the bottom of the empty bin.")] = None,
    full_mm: Annotated[int | None, typer.Option(help="Distance at which it counts as full.")] = None,
    shape: ShapeOption = None,
    lat: Annotated[float | None, typer.Option(help="Degrees north.")] = None,
    lon: Annotated[float | None, typer.Option(help="Degrees east.")] = None,
    decoder: Annotated[str | None, typer.Option(help="brim or ascii-distance-cm.")] = None,
    counter: Annotated[str | None, typer.Option(help="strict, or volatile for a device that forgets it.")] = None,
    dev_nonce: Annotated[
        str | None, typer.Option(help="rising, or random for a device of before LoRaWAN 1.0.4.")
    ] = None,
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
        "bin": name, "dev": dev, "link": link, "empty_mm": empty_mm, "full_mm": full_mm, "shape": shape,
        "lat": lat, "lon": lon, "decoder": decoder, "counter": counter,
        "allow_public_key": "true" if allow_public_key else None,
        "dev_nonce": dev_nonce, "join_eui": join_eui,
    }  # fmt: skip
    row = {key: str(value) for key, value in given.items() if value is not None}
    with errors(), keys_file_of(keys_file) as keys:
        added = perform(config, "bins.add", rows=[[name, row]])
        keys += added.pop("keys")
        _report_added(added, keys_file, as_json)


@app.command("import")
def bins_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="CSV with a header; only the column bin is required.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    keys_file: KeysFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register many bins, all or none. Columns: bin, dev, link, empty_mm, full_mm, shape, lat, lon, decoder, counter,
    allow_public_key, dev_nonce, dev_addr, nwk_s_key, app_s_key, f_cnt_up, f_cnt_down,
    app_key, join_eui, mqtt_password.

    Example: brim gateway bins import bins.csv --keys-file keys.json
    """
    with errors():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            from brim_gateway.errors import RegistryError

            raise RegistryError([f"{file}: not UTF-8 text"]) from None
        with keys_file_of(keys_file) as keys:
            added = perform(config, "bins.import", csv=text)
            keys += added.pop("keys")
            _report_added(added, keys_file, as_json)


def _report_added(added: dict[str, Any], keys_file: Path | None, as_json: bool) -> None:
    for text in added["warnings"]:
        typer.echo(f"warning: {text}", err=True)
    if as_json:
        print_json(added)
        return
    for one in added["bins"] if len(added["bins"]) <= 10 else []:
        typer.echo(f"registered {one['bin']}: {one['link']}, device {one['dev']}")
    if len(added["bins"]) > 10:
        typer.echo(f"registered {len(added['bins'])} bins")
    where = f"keys: {keys_file} (0600)" if keys_file else "keys: in the database only; see `brim gateway keys replace`"
    typer.echo(where)


@app.command("list")
def bins_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Every bin with its fill and last contact.

    Example: brim gateway bins list
    """
    with errors():
        found = perform(config, "bins.list")
        if as_json:
            print_json(found)
            return
        for one in found:
            fill = "-" if one["fill_pct"] is None else f"{one['fill_pct']} %"
            typer.echo(f"{one['bin']:24} {one['dev']} {one['link']:8} {fill:>6}  {one['last_contact'] or 'never'}")
        if not found:
            typer.echo("no bins; add one with `brim gateway bins add`")


@app.command("show")
def bins_show(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Everything known of one bin, but no secret.

    Example: brim gateway bins show SE-0180-04711
    """
    with errors():
        print_view(perform(config, "bins.show", bin=name), as_json)


@app.command("remove")
def bins_remove(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Forget a bin, its keys and the commands that wait for it. Its readings stay in the journal.

    Example: brim gateway bins remove SE-0180-04711
    """
    with errors():
        gone = perform(config, "bins.remove", bin=name)
        if as_json:
            print_json(gone)
        else:
            typer.echo(f"removed {gone['bin']} (device {gone['dev']})")


@app.command("unknown")
def bins_unknown(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Devices that were heard and are not registered, with the command that adopts each.

    Example: brim gateway bins unknown
    """
    with errors():
        found = perform(config, "bins.unknown")
        if as_json:
            print_json(found)
            return
        for one in found:
            who = one.get("dev") or f"address {one.get('dev_addr')}"
            typer.echo(f"{who:24} {one['link']:8} {one['count']:>6} times, last {one['last']}: {one['why']}")
            if one.get("dev"):
                typer.echo(f"  brim gateway bins adopt {one['dev']} BIN --keys-file BIN.json")
        if not found:
            typer.echo("nobody unknown was heard since the daemon started (or no daemon runs)")


@app.command("adopt")
def bins_adopt(
    dev: Annotated[str, typer.Argument(metavar="DEV", help="The device, as `bins unknown` shows it.")],
    name: Annotated[str, typer.Argument(metavar="BIN", help="The city's name for it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    keys_from: Annotated[
        Path | None,
        typer.Option("--keys-from", help="JSON file with the keys that the device has; new ones if left out."),
    ] = None,
    keys_file: KeysFileOption = None,
    empty_mm: Annotated[int | None, typer.Option(help="Distance to the bottom of the empty bin.")] = None,
    full_mm: Annotated[int | None, typer.Option(help="Distance at which it counts as full.")] = None,
    shape: ShapeOption = None,
    lat: Annotated[float | None, typer.Option(help="Degrees north.")] = None,
    lon: Annotated[float | None, typer.Option(help="Degrees east.")] = None,
    decoder: Annotated[str | None, typer.Option(help="brim or ascii-distance-cm.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a device that was heard. Without --keys-from its keys are made here and must be installed in it.

    Example: brim gateway bins adopt 70b3d57ed0051f2a SE-0180-04711 --keys-from 04711.json
    """
    given = {
        "bin": name, "empty_mm": empty_mm, "full_mm": full_mm, "shape": shape, "lat": lat, "lon": lon,
        "decoder": decoder,
    }  # fmt: skip
    row = {key: str(value) for key, value in given.items() if value is not None}
    with errors():
        if keys_from is not None:
            row = _keys_of_device(keys_from) | row
        with keys_file_of(keys_file) as keys:
            added = perform(config, "bins.adopt", dev=dev, row=row)
            keys += added.pop("keys")
            _report_added(added, keys_file, as_json)


DEVICE_KEYS = ("app_key", "join_eui", "dev_addr", "nwk_s_key", "app_s_key", "mqtt_password")


def _keys_of_device(path: Path) -> dict[str, str]:
    """What a keys file says of keys: an object, or a list with one. Never quoted in an error."""
    import json

    from brim_gateway.errors import RegistryError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RegistryError([f"{path}: not JSON"]) from None
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise RegistryError([f"{path}: an object of texts expected, as --keys-file writes it"])
    keys = {name: value for name, value in found.items() if name in DEVICE_KEYS}
    if not keys:
        raise RegistryError([f"{path}: no key in it; known: {', '.join(DEVICE_KEYS)}"])
    return keys
