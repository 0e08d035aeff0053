# SPDX-License-Identifier: Apache-2.0
"""For everybody: fetch and send files by URI and sha256. The callbacks import what they need."""

from __future__ import annotations

from pathlib import Path

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.places import limits_of, opened, place_options
from teraproof.errors import WrongInput


@click.group("storage")
def cli() -> None:
    """Fetch and send files by URI and sha256."""


@command(cli, Needs.NOTHING)
@click.argument("uri")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sha256", required=True, metavar="HEX", help="What its bytes must hash to.")
@click.option("--size", required=True, type=click.IntRange(min=0), help="Bytes that it must have.")
@place_options
def get(
    session: Session,
    uri: str,
    file: Path,
    sha256: str,
    size: int,
    access: Path | None,
    rate: int | None,
    max_mb: int,
) -> Result:
    """Fetch the object at URI into FILE, which appears when all of it is verified.

    What was fetched before a break is in FILE.part, and the same command goes on from there.
    """
    from teraproof.protocol.digests import Entry
    from teraproof.storage.objects import Named
    from teraproof.storage.transfer import fetch
    from teraproof.trees import is_entry

    named, limits = Named(sha256, size), limits_of(rate, max_mb)
    if file.exists() and not is_entry(file, Entry(file.name, size, sha256)):
        raise WrongInput(f"{file}: is there already; name a new file")
    if not file.exists():
        with opened(uri, access, limits) as store:
            session.ui.doing(f"fetching {store.uri}")
            fetch(store, "", named, file, limits)
    session.ui.step(f"{file} has the {size:,} bytes that were named")
    return {"file": str(file), "sha256": sha256, "size": size}


@command(cli, Needs.NOTHING)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("uri")
@place_options
def put(
    session: Session,
    file: Path,
    uri: str,
    access: Path | None,
    rate: int | None,
    max_mb: int,
) -> Result:
    """Send FILE to URI. Shows the sha256 and the size by which others name it."""
    from teraproof.protocol.errors import Code
    from teraproof.storage.objects import Source
    from teraproof.storage.transfer import send

    limits, source = limits_of(rate, max_mb), Source.of_file(file)
    if source.named.size > limits.most_bytes:
        raise WrongInput(f"{file}: larger than --max-mb allows", Code.LIMIT_EXCEEDED)
    with opened(uri, access, limits) as store:
        session.ui.doing(f"sending to {store.uri}")
        send(store, "", source, limits)
        place = str(store.uri)
    session.ui.step(f"sent to {place}: sha256 {source.named.sha256}, {source.named.size:,} bytes")
    return {"uri": place, "sha256": source.named.sha256, "size": source.named.size}
