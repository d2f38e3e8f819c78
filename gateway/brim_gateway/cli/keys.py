"""Keys of bins: show, replace, certificate, renew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from brim_gateway.cli.common import (
    DEFAULT_CONFIG,
    BinArgument,
    ConfigOption,
    JsonOption,
    errors,
    group,
    perform,
    print_json,
    print_view,
    read_config,
)
from brim_gateway.cli.common import keys_file as keys_file_of

app = group("Keys of bins: shown is only whether they are set.")


@app.command("show")
def keys_show(
    name: Annotated[str, typer.Argument(metavar="BIN")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Which keys of a bin are set.

    Example: brim gateway keys show SE-0180-04711
    """
    with errors():
        found = perform(config, "bins.show", bin=name)
        print_view({"bin": found["bin"], "dev": found["dev"], "keys": found["keys"]}, as_json)


@app.command("replace")
def keys_replace(
    name: BinArgument,
    keys_file: Annotated[Path, typer.Option("--keys-file", help="New file (0600) for the new keys.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make new keys for a bin; the old ones end at once.

    Example: brim gateway keys replace SE-0180-04711 --keys-file 04711.json
    """
    with errors(), keys_file_of(keys_file) as keys:
        done = perform(config, "keys.replace", bin=name)
        keys += done.pop("keys")
        if as_json:
            print_json(done)
        else:
            typer.echo(f"new keys of {done['bin']}: {keys_file} (0600)")


@app.command("certificate")
def keys_certificate(
    name: BinArgument,
    cert_file: Annotated[Path, typer.Option("--cert-file", help="New file for the certificate.")],
    key_file: Annotated[Path, typer.Option("--key-file", help="New file (0600) for its private key.")],
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make a client certificate for a Wi-Fi bin, in place of its password. Signed by the site's own authority.

    The listener takes it once client_ca under [mqtt_listener] names data/tls/site-ca.pem.

    Example: brim gateway keys certificate SE-0180-04711 --cert-file 04711.pem --key-file 04711.key
    """
    with errors():
        from brim_gateway.errors import RegistryError
        from brim_gateway.pki import make_client, write_secret

        found = perform(config, "bins.show", bin=name)
        if found["link"] != "wifi":
            raise RegistryError([f"{name}: a certificate is for a Wi-Fi bin; this one speaks {found['link']}"])
        loaded = read_config(config)
        folder = loaded.data_dir / "tls"
        for path in (cert_file, key_file):
            if path.exists():
                raise OSError(f"{path}: exists; name a new file, nothing was changed")
        certificate, key = make_client(folder / "site-ca.pem", folder / "site-ca.key", found["dev"])
        write_secret(key_file, key)
        write_secret(cert_file, certificate)
        takes = loaded.mqtt_listener is not None and loaded.mqtt_listener.client_ca is not None
        if as_json:
            print_json({"bin": name, "dev": found["dev"], "cert": str(cert_file), "key": str(key_file), "taken": takes})
            return
        typer.echo(f"certificate of {name}: {cert_file}, key: {key_file} (0600)")
        if not takes:
            typer.echo(f'not taken yet: say client_ca = "{folder / "site-ca.pem"}" under [mqtt_listener]')


@app.command("renew")
def keys_renew(
    config: ConfigOption = DEFAULT_CONFIG,
    tls_name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or address by which Wi-Fi bins reach us; those of the old one if left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new listener's certificate, signed by the site's own authority. Bins notice nothing; restart the gateway.

    Example: brim gateway keys renew
    """
    with errors():
        from brim_gateway.errors import GatewayError
        from brim_gateway.ownership import give_to_owner
        from brim_gateway.pki import renew_server

        folder = read_config(config).data_dir / "tls"
        try:
            files = renew_server(folder, list(tls_name or ()))
        except ValueError as exc:
            raise GatewayError(f"{folder}: {exc}") from None
        give_to_owner(folder)
        if as_json:
            print_json({"cert": str(files.cert), "key": str(files.key)})
        else:
            typer.echo(
                f"new certificate: {files.cert}; the old one is kept as {files.cert.name}.old; restart the gateway"
            )
