# SPDX-License-Identifier: Apache-2.0
"""For owners of GPUs and their delegators: register, stake, unstake, withdraw, status.

ape run provider register --network ethereum:sepolia --account NAME --consent consent.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scripts.market import accounts
from scripts.market.command import (
    ADDRESS,
    MarketCommand,
    account_option,
    common_options,
    console,
    provider_option,
)
from scripts.market.network import connect
from teraproof.amounts import TPF_DECIMALS, basis_points, units
from teraproof.market import entries, providers
from teraproof.market.market import open_market
from teraproof.market.sending import Sender

_consent_option = click.option(
    "--consent",
    "consent_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File made by provider-agent consent.",
)
_receiver_option = click.option(
    "--receiver", type=ADDRESS, help="Who gets the money; default: the account."
)
_per_order_option = click.option(
    "--max-lock-per-order", metavar="TPF", required=True, help="Most collateral of one order."
)
_in_all_option = click.option(
    "--max-locked", metavar="TPF", required=True, help="Most collateral of all orders together."
)


def _tpf(text: str, name: str) -> int:
    return units(text, TPF_DECIMALS, name)


@click.group()
def cli() -> None:
    """Register a provider, stake, unstake, withdraw, look."""


@cli.command(cls=MarketCommand)
@account_option
@_consent_option
@click.option("--endpoint", help="URL of the agent; default: the one in the consent.")
@click.option("--payout", type=ADDRESS, help="Who is paid for jobs; default: the account.")
@click.option("--commission", default="0", help='Share of rewards kept, such as "5 %".')
@_per_order_option
@_in_all_option
@common_options
def register(
    provider: Any,
    alias: str | None,
    consent_file: Path,
    endpoint: str | None,
    payout: str | None,
    commission: str,
    max_lock_per_order: str,
    max_locked: str,
    deployments: Path,
    yes: bool,
) -> None:
    """Make the account a provider whose agent signed the consent."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    providers.register(
        market,
        sender,
        console(yes),
        providers.read_consent(consent_file, market, sender.address),
        endpoint=endpoint,
        payout=payout,
        commission_bps=basis_points(commission, "--commission"),
        max_lock_per_order=_tpf(max_lock_per_order, "--max-lock-per-order"),
        max_locked=_tpf(max_locked, "--max-locked"),
    )


@cli.command("set-limits", cls=MarketCommand)
@account_option
@_per_order_option
@_in_all_option
@common_options
def set_limits(
    provider: Any,
    alias: str | None,
    max_lock_per_order: str,
    max_locked: str,
    deployments: Path,
    yes: bool,
) -> None:
    """Change how much collateral the operator may put at risk."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    providers.set_limits(
        market,
        sender,
        console(yes),
        _tpf(max_lock_per_order, "--max-lock-per-order"),
        _tpf(max_locked, "--max-locked"),
    )


@cli.command("set-endpoint", cls=MarketCommand)
@account_option
@click.argument("url")
@common_options
def set_endpoint(provider: Any, alias: str | None, url: str, deployments: Path, yes: bool) -> None:
    """Announce where the agent is reached."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    providers.set_endpoint(market, sender, console(yes), url)


@cli.command("set-operator", cls=MarketCommand)
@account_option
@_consent_option
@common_options
def set_operator(
    provider: Any, alias: str | None, consent_file: Path, deployments: Path, yes: bool
) -> None:
    """Replace the operator key; the old one signs nothing any more."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    consent = providers.read_consent(consent_file, market, sender.address)
    providers.set_operator(market, sender, console(yes), consent)


def _stake(
    provider: Any, alias: str | None, owner: str | None, amount: str, deployments: Path, yes: bool
) -> None:
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    wei = _tpf(amount, "AMOUNT")
    providers.delegate(market, sender, console(yes), owner or sender.address, wei)


@cli.command(cls=MarketCommand)
@account_option
@click.argument("amount")
@common_options
def stake(provider: Any, alias: str | None, amount: str, deployments: Path, yes: bool) -> None:
    """Put AMOUNT TPF into the account's own pool."""
    _stake(provider, alias, None, amount, deployments, yes)


@cli.command(cls=MarketCommand)
@account_option
@click.argument("amount")
@click.option("--provider", "owner", type=ADDRESS, required=True, help="Owner address.")
@common_options
def delegate(
    provider: Any, alias: str | None, amount: str, owner: str, deployments: Path, yes: bool
) -> None:
    """Put AMOUNT TPF behind another provider."""
    _stake(provider, alias, owner, amount, deployments, yes)


@cli.command(cls=MarketCommand)
@account_option
@provider_option
@click.option("--for", "holder", type=ADDRESS, help="Whose entry; default: the account's own.")
@common_options
def activate(
    provider: Any,
    alias: str | None,
    owner: str | None,
    holder: str | None,
    deployments: Path,
    yes: bool,
) -> None:
    """Make an entry active stake once nothing is unsettled; anyone may."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    whose = holder or sender.address
    entries.activate(market, sender, console(yes), owner or sender.address, whose)


@cli.command("take-back", cls=MarketCommand)
@account_option
@provider_option
@_receiver_option
@common_options
def take_back(
    provider: Any,
    alias: str | None,
    owner: str | None,
    receiver: str | None,
    deployments: Path,
    yes: bool,
) -> None:
    """Take the account's entry out again, at any time."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    entries.take_back(market, sender, console(yes), owner or sender.address, receiver)


@cli.command(cls=MarketCommand)
@account_option
@click.argument("amount")
@provider_option
@common_options
def unstake(
    provider: Any, alias: str | None, amount: str, owner: str | None, deployments: Path, yes: bool
) -> None:
    """Begin to take out AMOUNT TPF, or all."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    wei = None if amount == "all" else _tpf(amount, "AMOUNT")
    providers.unstake(market, sender, console(yes), owner or sender.address, wei)


@cli.command(cls=MarketCommand)
@account_option
@provider_option
@_receiver_option
@common_options
def withdraw(
    provider: Any,
    alias: str | None,
    owner: str | None,
    receiver: str | None,
    deployments: Path,
    yes: bool,
) -> None:
    """Pull what is ready: unbonded stake, payouts, credits."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    providers.withdraw(market, sender, console(yes), owner or sender.address, receiver)


@cli.command(cls=MarketCommand)
@account_option
@provider_option
@common_options
def status(
    provider: Any, alias: str | None, owner: str | None, deployments: Path, yes: bool
) -> None:
    """Show a provider; without --provider or --account, all of them."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    ui = console(yes)
    account = accounts.load(alias, chain, provider).address if alias else None
    if owner or account:
        found = providers.read(market, owner or account or "")
        providers.show(market, found, ui, account)
        return
    every = providers.read_all(market)
    if not every:
        ui.note("no provider is registered here")
    for known in every:
        providers.show(market, known, ui)


@cli.command("list", cls=MarketCommand)
@common_options
def list_providers(provider: Any, deployments: Path, yes: bool) -> None:
    """Show all providers: stake, collateral for the next order, proven throughput, commission."""
    market = open_market(deployments, connect(provider))
    found = providers.read_all(market)
    ui = console(yes)
    if not found:
        ui.note("no provider is registered here")
        return
    providers.show_list(found, ui)
