# SPDX-License-Identifier: Apache-2.0
"""For long work: save it, and go on elsewhere. The callbacks import what they need."""

from __future__ import annotations

import hashlib
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.places import limits_of, opened, place_options
from teraproof.errors import LocalError, counted

if TYPE_CHECKING:
    from teraproof.storage.checkpoints import Saved


@click.group("checkpoint")
def cli() -> None:
    """Save a directory at intervals, list what was saved, go on from it."""


@command(cli, Needs.NOTHING)
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("uri")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Save at this interval, until SIGTERM or Ctrl-C, and then once more. Default: once.",
)
@click.option(
    "--keep", type=click.IntRange(min=1), default=3, show_default=True, help="How many stay."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="A directory for what is remembered between two calls, and for copies. Default: one for "
    "each directory and URI, below ~/.local/state/teraproof.",
)
@place_options
def save(
    session: Session,
    directory: Path,
    uri: str,
    every: float | None,
    keep: int,
    state: Path | None,
    access: Path | None,
    rate: int | None,
    max_mb: int,
) -> Result:
    """Save the files of DIRECTORY at URI, s3://bucket/prefix or file:///path, as a checkpoint.

    It is what was there at one moment; files that have not changed are not sent again.
    """
    from teraproof.storage.checkpoints import Writer
    from teraproof.storage.layout import Destination

    limits = limits_of(rate, max_mb)
    last: list[Saved] = []

    def told(found: Saved | LocalError) -> None:
        if isinstance(found, LocalError):
            session.ui.note(f"not saved this time: {found}")
            return
        last[:] = [found]
        if found.new:
            session.ui.step(
                f"checkpoint {found.checkpoint}: {counted(found.files, 'file')}, "
                f"{found.bytes:,} bytes, of which {found.sent_bytes:,} were sent"
            )

    with opened(uri, access, limits) as store:
        place = state or _state(directory, str(store.uri))
        writer = Writer(Destination(store, limits), directory, place, keep)
        try:
            if every is None:
                told(writer.save())
            else:
                writer.run(every, _stop_signal(), told)
        finally:
            writer.close()
    if not last:
        return {"checkpoint": None}
    if not last[0].new:
        session.ui.step(f"checkpoint {last[0].checkpoint} has what is there")
    return {
        "checkpoint": str(last[0].checkpoint),
        "files": last[0].files,
        "bytes": last[0].bytes,
        "sent_bytes": last[0].sent_bytes,
    }


@command(cli, Needs.NOTHING, "list")
@click.argument("uri")
@place_options
def list_(session: Session, uri: str, access: Path | None, rate: int | None, max_mb: int) -> Result:
    """List the complete checkpoints at URI, the newest last."""
    from teraproof.storage.layout import Destination

    limits = limits_of(rate, max_mb)
    with opened(uri, access, limits) as store:
        destination = Destination(store, limits)
        rows = []
        for each in destination.listed():
            files = destination.files(each)
            rows.append((str(each), len(files), sum(entry.size for entry in files), each.sha256))
        place = str(store.uri)
    session.ui.table(
        f"Checkpoints at {place}",
        ("checkpoint", "files", "bytes", "sha256 of its manifest"),
        [(name, f"{files:,}", f"{size:,}", sha256) for name, files, size, sha256 in rows],
    )
    return {
        "checkpoints": [
            {"checkpoint": name, "files": files, "bytes": size, "manifest": sha256}
            for name, files, size, sha256 in rows
        ]
    }


@command(cli, Needs.NOTHING)
@click.argument("uri")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--checkpoint", "wanted", help="One that `list` shows. Default: the newest.")
@place_options
def resume(
    session: Session,
    uri: str,
    directory: Path,
    wanted: str | None,
    access: Path | None,
    rate: int | None,
    max_mb: int,
) -> Result:
    """Fetch the newest complete checkpoint at URI into DIRECTORY, which must not exist.

    It appears when every file is verified. The same command goes on after a break.
    """
    from teraproof.storage.checkpoints import resume as fetch
    from teraproof.storage.layout import Destination

    limits = limits_of(rate, max_mb)
    with opened(uri, access, limits) as store:
        session.ui.doing(f"fetching from {store.uri}")
        checkpoint, files = fetch(Destination(store, limits), directory, wanted)
    size = sum(entry.size for entry in files)
    session.ui.step(
        f"{directory} has checkpoint {checkpoint}: {counted(len(files), 'file')}, {size:,} bytes"
    )
    return {"checkpoint": str(checkpoint), "files": len(files), "bytes": size}


def _state(directory: Path, place: str) -> Path:
    """The state for a directory and a destination."""
    from teraproof.state import state_directory

    named = f"{directory.absolute()}\n{place}".encode()
    return state_directory() / "checkpoints" / hashlib.sha256(named).hexdigest()[:32]


def _stop_signal() -> threading.Event:
    """Set by SIGTERM and by Ctrl-C: the last checkpoint is still written."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
