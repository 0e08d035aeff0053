# SPDX-License-Identifier: Apache-2.0
"""The group of the commands of leases, and the options that several of them have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from teraproof.cli.values import BILLIONTHS, HOURLY, LEASE, RATE, SECONDS, URL

if TYPE_CHECKING:
    from teraproof.cli.frame import Session
    from teraproof.market.leases import Lease

_Made = TypeVar("_Made", bound=Callable[..., object])


@click.group("lease")
def cli() -> None:
    """Rent by the second: check files of Akash's SDL, hire, watch, top up, close."""


lease_argument = click.argument("lease_id", metavar="LEASE", type=LEASE)
file_argument = click.argument("file", type=click.Path(path_type=Path))
file_option = click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file of the order; it has the credentials. Default: the one that was ordered by.",
)
endpoint_option = click.option(
    "--endpoint", type=URL, help="URL of the agent; default: as announced."
)
funds_option = click.option(
    "--funds",
    type=click.Choice(["auto", "credit", "allowance", "permit"]),
    default="auto",
    show_default=True,
    help="Where the deposit comes from: credit in the market, allowance, or permit.",
)
by_hand_option = click.option(
    "--by-hand",
    is_flag=True,
    help="Stop when it is ready: challenge, and confirm or reject it yourself.",
)
timeout_option = click.option(
    "--timeout",
    type=SECONDS,
    help='Give the terminal back after this time, such as "10 minutes"; default: never.',
)
score_option = click.option(
    "--min-score",
    type=RATE,
    default="0",
    metavar="SPEED",
    help='Throughput that must be shown, such as "500 TOPS" (INT8); proven, in an auction.',
)
bandwidth_option = click.option(
    "--memory-bandwidth",
    type=BILLIONTHS,
    default="0",
    metavar="GB/S",
    help="At which each GPU must read its memory when it is challenged. Default: any.",
)


def order_options(made: _Made) -> _Made:
    """What a tenant asks for beyond its file."""
    for option in reversed(_ORDER):
        made = option(made)
    return made


_ORDER = (
    click.option("--group", metavar="PLACEMENT", help="Which lease of a file with several."),
    click.option("--akt-usd", metavar="DOLLARS", help="What one AKT is worth, for prices in uakt."),
    click.option(
        "--max-price",
        type=HOURLY,
        metavar="DOLLARS",
        help="Highest price an hour, for all of it, if less than the file's.",
    ),
    click.option(
        "--term",
        type=SECONDS,
        default="1 day",
        show_default=True,
        metavar="TIME",
        help="From `ready` to the end, at most.",
    ),
    click.option(
        "--ready-within",
        type=SECONDS,
        metavar="TIME",
        default="15 minutes",
        show_default=True,
        help="Time for the provider to be ready.",
    ),
    click.option(
        "--notice",
        type=SECONDS,
        default="0",
        metavar="TIME",
        help="That its provider gives, at least. Default: the file's.",
    ),
    score_option,
)


def find(session: Session, lease_id: str) -> Lease:
    """The lease that is named on the command line."""
    from teraproof.market import leases

    market = session.market
    session.ui.doing("looking for the lease")
    return leases.find(market, lease_id)
