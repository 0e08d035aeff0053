# SPDX-License-Identifier: Apache-2.0
"""What an order asks to be saved, by its options: a file of SDL has no word for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from teraproof.cli.places import access_option
from teraproof.cli.values import SECONDS
from teraproof.errors import LocalError, WrongInput

if TYPE_CHECKING:
    from teraproof.protocol.lease_checkpoints import Checkpoints
    from teraproof.protocol.leasespec import LeaseSpec
    from teraproof.sdl.leases import Lease

_Made = TypeVar("_Made", bound=Callable[..., object])
_LEAST, _MOST = 5, 7 * 86_400  # seconds from one checkpoint to the next
_FORM = re.compile(r"([a-z][a-z0-9-]*):(/[^=]*)=(.+)", re.DOTALL)


class Ordered(NamedTuple):
    """A lease of a file, and dollars for one AKT."""

    lease: Lease
    akt: Fraction


def saving_options(made: _Made) -> _Made:
    """What the provider saves in the tenant's store."""
    for option in reversed(_SAVING):
        made = option(made)
    return made


_SAVING = (
    click.option(
        "--checkpoints",
        metavar="SERVICE:PATH=URI",
        help="Have the provider save PATH of a service at s3://bucket/prefix, at intervals, and "
        "begin with the newest checkpoint there. PATH is a volume, or a directory in one.",
    ),
    click.option(
        "--checkpoint-every",
        type=SECONDS,
        default="5 minutes",
        show_default=True,
        metavar="TIME",
        help="From one checkpoint to the next.",
    ),
    click.option(
        "--checkpoint-keep",
        type=click.IntRange(1, 1_000),
        default=3,
        show_default=True,
        help="How many stay.",
    ),
    access_option,
)


def saved_by(found: list[Ordered], given: Mapping[str, Any]) -> list[Ordered]:
    """The leases of an order, of which one has the checkpoints that the options name.

    WrongInput for what cannot be saved, or a store that cannot be opened: before any money moves.
    """
    if given["checkpoints"] is None:
        if given["access"] is not None:
            raise WrongInput("--access opens the store of --checkpoints; give both")
        return found
    from teraproof.market.lease_stores import access_of
    from teraproof.protocol.lease_checkpoints import Checkpoints
    from teraproof.storage.uris import parse

    matched = _FORM.fullmatch(given["checkpoints"])
    if matched is None:
        raise WrongInput(
            "--checkpoints: give SERVICE:PATH=URI, such as train:/data/state=s3://bucket/run"
        )
    service, path, uri = matched.groups()
    every = given["checkpoint_every"]
    try:
        parsed = parse(uri)  # the line does not repeat it: it may hold a password
    except LocalError as error:
        raise WrongInput(f"--checkpoints: {error}") from None
    if parsed.scheme == "s3" and not parsed.path.strip("/"):
        raise WrongInput("--checkpoints: name a prefix of its own, such as s3://my-bucket/run")
    if not _LEAST <= every <= _MOST:
        raise WrongInput("--checkpoint-every: give 5 seconds to 7 days")
    place = str(parsed)
    wanted = Checkpoints(service, _clean(path), place.rstrip("/"), every, given["checkpoint_keep"])
    if not any(one.name == service for each in found for one in each.lease.spec.services):
        names = ", ".join(one.name for each in found for one in each.lease.spec.services)
        raise WrongInput(f"--checkpoints: {service!r} is not a service of the file; it has {names}")
    saving = [
        each._replace(lease=replace(each.lease, spec=_with(each.lease.spec, wanted)))
        for each in found
    ]
    access_of(noted(given["access"]))
    return saving


def require_store(given: Mapping[str, Any]) -> None:
    """WrongInput for checkpoints without what opens their store: before any money moves."""
    if given["checkpoints"] is not None:
        from teraproof.market.lease_stores import require_keys

        require_keys(noted(given["access"]))


def _with(spec: LeaseSpec, wanted: Checkpoints) -> LeaseSpec:
    from teraproof.protocol.leasespec import checked

    if all(one.name != wanted.service for one in spec.services):
        return spec
    try:
        return checked(replace(spec, checkpoints=wanted))
    except LocalError as error:
        where, _, line = str(error).partition(": ")
        raise WrongInput(f"--checkpoints: {line}" if "checkpoints" in where else str(error)) from (
            None
        )


def _clean(path: str) -> str:
    return re.sub("/+", "/", path).rstrip("/") or "/"


def noted(access: Path | None) -> str:
    """The file, as it is noted."""
    return "" if access is None else str(access.absolute())
