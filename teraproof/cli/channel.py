# SPDX-License-Identifier: Apache-2.0
"""`teraproof channel`: what lies in channels with providers of models, and how it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from teraproof.cli.frame import Needs, Result, Session, command

if TYPE_CHECKING:
    from teraproof.gateway.returning import Returning, Standing

_config = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gateway.toml"),
    show_default=True,
    help="Settings of the gateway whose channels they are.",
)
_named = click.argument("channels", metavar="[CHANNEL]...", nargs=-1)


@click.group("channel")
def cli() -> None:
    """Take back deposits for models: list, refund, withdraw, finalize."""


@contextmanager
def _opened(session: Session, config: Path, *, read_only: bool = False) -> Iterator[Returning]:
    from teraproof.gateway import settings
    from teraproof.gateway.returning import Returning
    from teraproof.gateway.store import Store

    found = settings.load(config)
    store = Store(found.listen.data_dir, read_only=read_only)
    try:
        yield Returning(session.market, store, found.route.reach)
    finally:
        store.close()


@command(cli, Needs.CHAIN, "list")
@_config
def list_channels(session: Session, config: Path) -> Result:
    """Show the channels: deposits, what was claimed, what is left."""
    from teraproof.gateway import returning

    with _opened(session, config, read_only=True) as found:
        return returning.show(found.standings(), session.market, session.ui)


@command(cli, Needs.ACCOUNT)
@_named
@_config
def refund(session: Session, channels: tuple[str, ...], config: Path) -> Result:
    """Ask the providers for what is left, of all channels or of those named. Costs no gas."""
    from teraproof.errors import CommandError
    from teraproof.protocol.errors import Code

    def told(one: Standing, why: str) -> None:
        session.ui.note(why)

    with _opened(session, config) as found:
        chosen = _with_money(session, found, channels)
        _ask(session, chosen, "Ask the providers for")
        back, failed = _refunded(session, found, chosen, told)
    if failed:
        raise CommandError(
            f"{len(failed)} of {len(chosen)} channels gave nothing back; take it with: teraproof "
            "channel withdraw",
            Code.PAYMENT_UNFIT,
            refunded=str(back),
            failed=failed,
        )
    return {"refunded": str(back), "failed": failed}


@command(cli, Needs.ACCOUNT)
@_named
@_config
def withdraw(session: Session, channels: tuple[str, ...], config: Path) -> Result:
    """Take back what is left: by a refund, or where the provider gives none, by a transaction."""
    with _opened(session, config) as found:

        def withdrawn(one: Standing, why: str) -> None:
            session.ui.note(f"{why}; it is withdrawn by a transaction")
            found.withdraw(one, session.sender, session.ui)

        chosen = _with_money(session, found, channels)
        _ask(session, chosen, "Take back")
        back, begun = _refunded(session, found, chosen, withdrawn)
    return {"refunded": str(back), "withdrawing": begun}


@command(cli, Needs.ACCOUNT)
@_named
@_config
def finalize(session: Session, channels: tuple[str, ...], config: Path) -> Result:
    """Take what withdraw has announced, when its time has come."""
    from teraproof.errors import CommandError

    with _opened(session, config) as found:
        now = session.market.now()
        every = found.standings(channels)
        chosen = every if channels else [one for one in every if 0 < one.ready_at <= now]
        if not chosen:
            raise CommandError(
                "no withdrawal is ready; channel withdraw announces one, and channel list shows "
                "when it is ready"
            )
        back = sum(found.finalize(one, session.sender, session.ui) for one in chosen)
    session.ui.step(f"{session.market.show_price(back)} came back")
    return {"withdrawn": str(back)}


def _refunded(
    session: Session,
    found: Returning,
    chosen: Sequence[Standing],
    otherwise: Callable[[Standing, str], None],
) -> tuple[int, list[str]]:
    """Ask for refunds; units that came back, and the channels that `otherwise` was called for."""
    from teraproof.errors import LocalError

    back, left = 0, []
    for one in chosen:
        try:
            back += found.refund(one, session.sender, session.ui)
        except LocalError as error:
            otherwise(one, str(error))
            left.append(f"0x{one.channel.id.hex()}")
    return back, left


def _with_money(session: Session, found: Returning, named: tuple[str, ...]) -> list[Standing]:
    from teraproof.errors import CommandError

    every = found.standings(named)
    chosen = [one for one in every if one.left and not one.ready_at]
    if not chosen:
        raise CommandError("no channel has anything left to take back; see channel list")
    return chosen


def _ask(session: Session, chosen: list[Standing], doing: str) -> None:
    left = sum(one.left for one in chosen)
    number = f"{len(chosen)} channel" + ("" if len(chosen) == 1 else "s")
    session.ui.ask(
        f"{doing} what is left of {number} ({session.market.show_price(left)} at most), and pay "
        "nothing from them any more?"
    )
