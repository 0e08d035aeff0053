# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that name objects by URIs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from teraproof.cli.values import ACCESS
from teraproof.errors import TeraproofError

if TYPE_CHECKING:
    from teraproof.storage.limits import Limits
    from teraproof.storage.objects import Store

_Made = TypeVar("_Made", bound=Callable[..., object])

access_option = click.option(
    "--access",
    type=ACCESS,
    metavar="FILE",
    help="For s3://: a JSON file, yours alone, with endpoint, region, key_id, secret and token. "
    "Default: the AWS_ variables of the environment.",
)
rate_option = click.option(
    "--rate",
    type=click.IntRange(min=1),
    metavar="KIB",
    help="KiB per second at most. Default: what the line carries.",
)
most_option = click.option(
    "--max-mb",
    type=click.IntRange(min=1),
    default=1 << 20,
    show_default=True,
    metavar="MIB",
    help="MiB at most, all files together.",
)


def place_options(made: _Made) -> _Made:
    """`--access`, `--rate` and `--max-mb`."""
    return access_option(rate_option(most_option(made)))


def limits_of(rate: int | None, max_mb: int) -> Limits:
    """Bounds by the options."""
    from teraproof.storage.limits import Limits

    return Limits(most_bytes=max_mb << 20, most_rate=None if rate is None else rate << 10)


@contextmanager
def opened(uri: str, access: Path | None, limits: Limits) -> Iterator[Store]:
    """The store at a URI that the person at this machine has named."""
    from teraproof.storage.access import Access
    from teraproof.storage.reach import Reach
    from teraproof.storage.transfer import open_store
    from teraproof.storage.uris import parse

    place = parse(uri)
    given = Access()
    if access is not None:
        try:
            given = Access.of_file(access)
        except TeraproofError as error:
            error.details["path"] = str(access)
            raise
    elif place.scheme == "s3":
        given = Access.of_environment()
    store = open_store(place, Reach.own(), limits, given)
    try:
        yield store
    finally:
        store.close()
