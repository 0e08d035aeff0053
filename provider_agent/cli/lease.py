# SPDX-License-Identifier: Apache-2.0
"""`provider-agent lease`: what the owner wants of single leases."""

from __future__ import annotations

from pathlib import Path

import click

from provider_agent.app import database
from provider_agent.cli.command import settings_option
from provider_agent.errors import SettingsError
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.repository import LeaseRow, LeasesRepository
from provider_agent.modules.leases.wishes import Wish, wish
from provider_agent.settings import load
from teraproof.amounts import show_tpf
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

_SHORTEST = 8  # digits of an id by which a lease is named


@click.group()
def lease() -> None:
    """Leave a lease: give the notice that was promised."""


@lease.command()
@click.argument("name", metavar="LEASE")
@settings_option
@click.option("--now", is_flag=True, help="Leave at once. The collateral is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def leave(name: str, config: Path, now: bool, yes: bool) -> None:
    """Give the notice that was promised; the lease ends after it.

    LEASE is its id, or the beginning that `status` shows. The agent does it with its next look at
    the chain, also when it is started later.
    """
    settings = load(config)
    path = database(settings)
    if not path.exists():
        raise SettingsError(f"{path} is not there; the agent has not run yet")
    store = open_store(path, owner=False)
    try:
        row = _find(LeasesRepository(store), name)
    finally:
        store.close()
    locked = show_tpf(row.terms.order.collateral)
    question = f"Leave 0x{row.name[:12]} at once and lose {locked}?"
    if now and not yes and not click.confirm(question):
        raise LocalError("nothing was done", Code.DECLINED)
    try:
        wish(settings.agent.data_dir, row.lease_id, Wish.LEAVE if now else Wish.NOTICE)
    except OSError as error:
        raise SettingsError(
            f"cannot write to {settings.agent.data_dir}: {error.strerror}"
        ) from None
    if now:
        click.echo(f"the agent leaves 0x{row.name[:12]} at once; {locked} will be lost")
    else:
        click.echo(
            f"the agent gives notice of {row.terms.order.notice} s for 0x{row.name[:12]} with its "
            "next look at the chain"
        )


def _find(store: LeasesRepository, name: str) -> LeaseRow:
    """The lease of ours whose id begins like that. LocalError where there is not exactly one."""
    digits = name.lower().removeprefix("0x").removesuffix("…")
    if len(digits) < _SHORTEST or not set(digits) <= set("0123456789abcdef"):
        raise LocalError(
            f"{name!r} is not a lease: give its id, or {_SHORTEST} hex digits of it or more",
            Code.INPUT_INVALID,
        )
    found = [row for row in store.ours() if row.name.startswith(digits)]
    if len(found) != 1:
        line = "more than one lease" if found else "no lease that has not ended"
        raise LocalError(f"{line} begins with 0x{digits}; see status", Code.INPUT_INVALID)
    return found[0]
