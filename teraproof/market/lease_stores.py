# SPDX-License-Identifier: Apache-2.0
"""The tenant's own store, in which a provider saves what a lease names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from teraproof.amounts import show_seconds
from teraproof.errors import WrongInput
from teraproof.market import lease_notes
from teraproof.market.lease_notes import Note
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.storage.access import Access
from teraproof.storage.layout import Destination
from teraproof.storage.limits import Limits
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse


def access_of(file: str) -> Access:
    """What opens it: a file, or with "" the environment. LocalError when that cannot be."""
    return Access.of_file(Path(file)) if file else Access.of_environment()


def require_keys(file: str) -> None:
    """WrongInput without a key: a provider could not save, and money would move for nothing."""
    if not access_of(file).key_id:
        raise WrongInput(
            "--checkpoints: give --access FILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )


def remember(chain: str, lease: bytes, file: Path | None) -> None:
    """Have another file open the store of a lease from now on. None: the one that is noted stays.

    WrongInput where this machine has not ordered the lease.
    """
    if file is None:
        return
    Access.of_file(file)
    note = lease_notes.of_lease(chain, lease)
    if note is None:
        raise WrongInput("--access: this machine has not ordered the lease; set AWS_ variables")
    lease_notes.write(replace(note, access=str(file.absolute())))


def newest(wanted: Checkpoints, note: Note | None) -> str | None:
    """The newest complete checkpoint; None where there is none. LocalError: the store's."""
    with _opened(wanted, "" if note is None else note.access) as destination:
        found = destination.listed()
    return str(found[-1]) if found else None


@contextmanager
def _opened(wanted: Checkpoints, file: str) -> Iterator[Destination]:
    limits = Limits()
    store = open_store(parse(wanted.uri), Reach.own(), limits, access_of(file))
    try:
        yield Destination(store, limits)
    finally:
        store.close()


def show(wanted: Checkpoints) -> str:
    """For people, in one line."""
    every = show_seconds(wanted.every_seconds)
    return f"{wanted.service}:{wanted.path} to {wanted.uri}, every {every}"
