# SPDX-License-Identifier: Apache-2.0
"""For owners of GPUs and their delegators: register, stake, unstake, withdraw, status."""

from __future__ import annotations

from pathlib import Path

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command, provider_option
from teraproof.cli.values import SHARE, TPF, TPF_OR_ALL, URL

_consent = click.option(
    "--consent",
    "consent_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File made by provider-agent consent.",
)
_receiver = click.option(
    "--receiver", type=ADDRESS, help="Who gets the money; default: the account."
)
_per_order = click.option(
    "--max-lock-per-order",
    type=TPF,
    metavar="TPF",
    required=True,
    help="Most collateral of one order.",
)
_total = click.option(
    "--max-locked",
    type=TPF,
    metavar="TPF",
    required=True,
    help="Most collateral of all orders together.",
)


@click.group("provider")
def cli() -> None:
    """Register a provider, stake, unstake, withdraw, look."""


@command(cli, Needs.ACCOUNT)
@_consent
@click.option(
    "--endpoint", type=URL, metavar="URL", help="URL of the agent; default: the one in the consent."
)
@click.option("--payout", type=ADDRESS, help="Who is paid for jobs; default: the account.")
@click.option("--commission", type=SHARE, default="0", help='Share of rewards kept, such as "5 %".')
@_per_order
@_total
def register(
    session: Session,
    consent_file: Path,
    endpoint: str | None,
    payout: str | None,
    commission: int,
    max_lock_per_order: int,
    max_locked: int,
) -> Result:
    """Make the account a provider whose agent signed the consent."""
    from teraproof.market import consents, providers

    market, sender = session.market, session.sender
    providers.register(
        market,
        sender,
        session.ui,
        consents.read(consent_file, market, sender.address),
        endpoint=endpoint,
        payout=payout,
        commission_bps=commission,
        max_lock_per_order=max_lock_per_order,
        max_locked=max_locked,
    )
    return {"provider": sender.address}


@command(cli, Needs.ACCOUNT, "set-limits")
@_per_order
@_total
def set_limits(session: Session, max_lock_per_order: int, max_locked: int) -> Result:
    """Change how much collateral the operator may put at risk."""
    from teraproof.market import providers

    providers.set_limits(
        session.market,
        session.sender,
        session.ui,
        max_lock_per_order,
        max_locked,
    )
    return {"provider": session.sender.address}


@command(cli, Needs.ACCOUNT, "set-endpoint")
@click.argument("url", type=URL)
def set_endpoint(session: Session, url: str) -> Result:
    """Announce where the agent is reached."""
    from teraproof.market import providers

    providers.set_endpoint(session.market, session.sender, session.ui, url)
    return {"provider": session.sender.address}


@command(cli, Needs.ACCOUNT, "set-operator")
@_consent
def set_operator(session: Session, consent_file: Path) -> Result:
    """Replace the operator key; the old one signs nothing any more."""
    from teraproof.market import consents, providers

    market, sender = session.market, session.sender
    consent = consents.read(consent_file, market, sender.address)
    providers.set_operator(market, sender, session.ui, consent)
    return {"provider": sender.address, "operator": consent.message.operator}


@command(cli, Needs.ACCOUNT, "claim-vouchers")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def claim_vouchers(session: Session, file: Path) -> Result:
    """Claim what FILE of provider-agent vouchers export brings; for channels that no agent claims.

    The account is the channels' receiver, or the operator that they name.
    """
    from teraproof.errors import of_file
    from teraproof.market import vouchers
    from teraproof.protocol.vouchers import MOST_BYTES, read

    try:
        with open(file, "rb") as opened:
            data = opened.read(MOST_BYTES)
    except OSError as error:
        raise of_file(error, file, "cannot read") from None
    kept = read(data, session.chain.chain_id)
    found = vouchers.claim(session.market, session.sender, session.ui, kept)
    shown = session.market.show_price(found.units)
    session.ui.step(f"{shown} claimed of {found.channels} channels")
    if found.left:
        session.ui.note(
            f"{len(found.left)} channels are left: this account is neither their receiver nor "
            "their operator, or the contract does not take their vouchers"
        )
    return {"claimed": str(found.units), "channels": found.channels, "left": list(found.left)}


def _stake(session: Session, owner: str | None, wei: int) -> Result:
    from teraproof.market import entries, providers

    market, sender = session.market, session.sender
    provider = owner or sender.address
    providers.delegate(market, sender, session.ui, provider, wei)
    waiting = entries.of(market, provider, sender.address)
    return {"provider": provider, "staked": str(wei), "waiting_entry": str(waiting)}


@command(cli, Needs.ACCOUNT)
@click.argument("amount", type=TPF)
def stake(session: Session, amount: int) -> Result:
    """Put AMOUNT TPF into the account's own pool."""
    return _stake(session, None, amount)


@command(cli, Needs.ACCOUNT)
@click.argument("amount", type=TPF)
@click.option("--provider", "owner", type=ADDRESS, required=True, help="Owner address.")
def delegate(session: Session, amount: int, owner: str) -> Result:
    """Put AMOUNT TPF behind another provider."""
    return _stake(session, owner, amount)


@command(cli, Needs.ACCOUNT)
@provider_option
@click.option("--for", "holder", type=ADDRESS, help="Whose entry; default: the account's own.")
def activate(session: Session, owner: str | None, holder: str | None) -> Result:
    """Make an entry active stake once nothing is unsettled; anyone may."""
    from teraproof.market import entries

    sender = session.sender
    provider, whose = owner or sender.address, holder or sender.address
    entries.activate(session.market, sender, session.ui, provider, whose)
    return {"provider": provider, "holder": whose}


@command(cli, Needs.ACCOUNT, "take-back")
@provider_option
@_receiver
def take_back(session: Session, owner: str | None, receiver: str | None) -> Result:
    """Take the account's entry out again, at any time."""
    from teraproof.market import entries

    sender = session.sender
    entries.take_back(session.market, sender, session.ui, owner or sender.address, receiver)
    return {"provider": owner or sender.address}


@command(cli, Needs.ACCOUNT)
@click.argument("amount", type=TPF_OR_ALL)
@provider_option
def unstake(session: Session, amount: int | str, owner: str | None) -> Result:
    """Begin to take out AMOUNT TPF, or all."""
    from teraproof.market import providers

    wei = amount if isinstance(amount, int) else None
    sender = session.sender
    provider = owner or sender.address
    done = providers.unstake(session.market, sender, session.ui, provider, wei)
    ticket = done.ticket
    return {
        "provider": provider,
        "ticket": ticket.number,
        "amount": str(ticket.assets),
        "ready_at": ticket.ready_at,
    }


@command(cli, Needs.ACCOUNT)
@provider_option
@_receiver
def withdraw(session: Session, owner: str | None, receiver: str | None) -> Result:
    """Pull what is ready: unbonded stake, payouts, credits."""
    from teraproof.market import providers

    sender = session.sender
    provider = owner or sender.address
    paid = providers.withdraw(session.market, sender, session.ui, provider, receiver)
    return {
        "unbonded": str(paid.unbonded),
        "payment": str(paid.credits.money),
        "tpf": str(paid.credits.stake),
    }


@command(cli, Needs.EITHER)
@provider_option
def status(session: Session, owner: str | None) -> Result:
    """Show a provider; without --provider or an account, all of them."""
    from teraproof.market import providers

    market, ui, account = session.market, session.ui, session.account
    ui.doing("reading the provider")
    if owner or account:
        found = providers.read(market, owner or account or "")
        providers.show(market, found, ui, account)
        return {"providers": [providers.to_json(found)]}
    every = providers.read_all(market)
    if not every:
        ui.note("no provider is registered here")
    for known in every:
        providers.show(market, known, ui)
    return {"providers": [providers.to_json(known) for known in every]}


@command(cli, Needs.CHAIN, "list")
@click.option(
    "--sort",
    type=click.Choice(["price", "throughput", "stake", "commission"]),
    default="price",
    show_default=True,
    help="What comes first: the lowest price or commission, the most throughput or stake.",
)
@click.option("--gpu", default="", metavar="NAME", help='Only with such a GPU, such as "h200".')
@click.option("--runtime", default="", metavar="NAME", help="Only with this runtime.")
def list_providers(session: Session, sort: str, gpu: str, runtime: str) -> Result:
    """Show all providers: price, devices, runtimes, and whether they answer; throughput, stake."""
    from teraproof.market import directory

    market, ui = session.market, session.ui
    every = directory.read(market, ui)
    found = directory.chosen(every, sort=sort, gpu=gpu, runtime=runtime)
    if found:
        directory.show(market, found, ui)
    else:
        ui.note("no provider is like that" if every else "no provider is registered here")
    return {"providers": [directory.to_json(one) for one in found]}
