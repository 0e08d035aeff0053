# SPDX-License-Identifier: Apache-2.0
"""For tenants: post or hire, watch, fetch the result, approve, cancel, expire, withdraw.

ape run job post examples/finetune-digits --network ethereum:sepolia --account NAME --price 2
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
)
from scripts.market.errors import ScriptError, WrongInput
from scripts.market.network import connect
from teraproof.amounts import TPF_DECIMALS, rate, seconds, units
from teraproof.cli.ui import ConsoleUi
from teraproof.market import credits, endings, jobs, packages, tenant
from teraproof.market.jobs import Funds
from teraproof.market.market import Market, fresh_nonce, open_market
from teraproof.market.sending import Sender
from teraproof.protocol import allow_list
from teraproof.protocol.terms import Judged, Order

_package_argument = click.argument("package", type=click.Path(path_type=Path))
_job_argument = click.argument("job_id", metavar="JOB")
_funds_option = click.option(
    "--funds",
    type=click.Choice([choice.value for choice in Funds]),
    default=Funds.AUTO.value,
    show_default=True,
    help="Where the escrow comes from: credit in the market, allowance, or permit.",
)
_score_option = click.option(
    "--min-score",
    default="0",
    metavar="SPEED",
    help='Proven throughput that the provider must have free, such as "500T" operations a second.',
)
_allow_option = click.option(
    "--allow",
    default="",
    metavar="OWNER,...",
    help="Owner addresses of the only providers that may take the job.",
)
_endpoint_option = click.option("--endpoint", help="URL of the agent; default: as announced.")


def _open(
    provider: Any, alias: str | None, deployments: Path, yes: bool
) -> tuple[Market, Sender, ConsoleUi]:
    chain = connect(provider)
    market = open_market(deployments, chain)
    sender = Sender(chain, accounts.load(alias, chain, provider))
    return market, sender, console(yes)


def _restricted(package: Path, allow: str) -> packages.Package:
    owners = [owner.strip() for owner in allow.split(",") if owner.strip()]
    return packages.restricted(packages.read(package), owners)


@click.group()
def cli() -> None:
    """Post jobs, watch them, fetch results."""


@cli.command(cls=MarketCommand)
@account_option
@_package_argument
@click.option("--price", required=True, help="Highest price, in payment tokens; escrowed.")
@click.option("--start-price", help="Price offered first; default: the highest price.")
@click.option("--auction", default="0", help='Time in which the price rises, such as "10 minutes".')
@click.option("--duration", help="Time to deliver; default: the job's timeout and 10 minutes.")
@click.option("--collateral", default="0", help="TPF that the provider puts up.")
@click.option("--min-stake", default="0", help="TPF that must be staked behind the provider.")
@_score_option
@_allow_option
@click.option(
    "--judged",
    type=click.Choice([Judged.TRUSTED.name.lower(), Judged.REFUSABLE.name.lower()]),
    default=Judged.TRUSTED.name.lower(),
    show_default=True,
    help="Who judges the result: nobody, or you, who may burn price and collateral.",
)
@click.option("--endpoint", "endpoints", multiple=True, help="Agents to send the inputs to.")
@_funds_option
@common_options
def post(
    provider: Any,
    alias: str | None,
    package: Path,
    price: str,
    start_price: str | None,
    auction: str,
    duration: str | None,
    collateral: str,
    min_stake: str,
    min_score: str,
    allow: str,
    judged: str,
    endpoints: tuple[str, ...],
    funds: str,
    deployments: Path,
    yes: bool,
) -> None:
    """Offer the job in PACKAGE (a directory with a job.json) to all providers, or those named."""
    read = _restricted(package, allow)
    market, sender, ui = _open(provider, alias, deployments, yes)
    highest = units(price, market.decimals, "--price")
    lowest = (
        highest if start_price is None else units(start_price, market.decimals, "--start-price")
    )
    if lowest > highest:
        raise WrongInput("--start-price: above --price, the highest price; lower it")
    order = Order(
        spec=read.spec.digest(),
        start_price=lowest,
        max_price=highest,
        collateral=units(collateral, TPF_DECIMALS, "--collateral"),
        duration=read.spec.timeout_seconds + 600
        if duration is None
        else seconds(duration, "--duration"),
        auction=seconds(auction, "--auction"),
        min_stake=units(min_stake, TPF_DECIMALS, "--min-stake"),
        min_score=rate(min_score, "--min-score"),
        allow_root=allow_list.root(read.spec.allow),
        nonce=fresh_nonce(),
        judged=Judged[judged.upper()],
    )
    if order.duration < read.spec.timeout_seconds:
        raise WrongInput(
            f"--duration: shorter than the job's own timeout of {read.spec.timeout_seconds} s"
        )
    urls = list(endpoints) or list(tenant.candidates(market, order, read.spec.allow).values())
    if not urls:
        ui.note("no registered provider could take this job now; one may come while it is open")
    placed = jobs.post(market, sender, ui, order, Funds(funds))
    tenant.upload(market, sender.signer, ui, read, urls, job=placed.job)


@cli.command(cls=MarketCommand)
@account_option
@_package_argument
@click.option("--provider", "owner", type=ADDRESS, help="Owner address of the provider to hire.")
@_score_option
@_endpoint_option
@_funds_option
@common_options
def hire(
    provider: Any,
    alias: str | None,
    package: Path,
    owner: str | None,
    min_score: str,
    endpoint: str | None,
    funds: str,
    deployments: Path,
    yes: bool,
) -> None:
    """Ask one provider for a price for PACKAGE, and hire it."""
    read = packages.read(package)
    market, sender, ui = _open(provider, alias, deployments, yes)
    if endpoint is None:
        owner, url = tenant.announced(market, owner)
    else:
        url = endpoint
    wanted = rate(min_score, "--min-score")
    if wanted and owner is not None:
        tenant.check_score(market, owner, wanted)
    quote, signature = tenant.quote(market, sender.signer, read, url, owner)
    if wanted and owner is None:
        hired = market.staking_events.provider_of(quote.operator, "latest")
        tenant.check_score(market, hired, wanted)
    placed = jobs.hire(market, sender, ui, quote, signature, Funds(funds))
    tenant.upload(market, sender.signer, ui, read, [url], job=placed.job)


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@_package_argument
@_allow_option
@click.option("--endpoint", "endpoints", multiple=True, help="Agents to send the inputs to.")
@common_options
def upload(
    provider: Any,
    alias: str | None,
    job_id: str,
    package: Path,
    allow: str,
    endpoints: tuple[str, ...],
    deployments: Path,
    yes: bool,
) -> None:
    """Send the inputs of a job that is on chain already (again), with its --allow if it had one."""
    read = _restricted(package, allow)
    market, sender, ui = _open(provider, alias, deployments, yes)
    job = jobs.find(market, job_id)
    if job.terms.order.spec != read.spec.digest():
        raise WrongInput(f"{package} is not the package of job {jobs.short(job.job)}")
    urls = list(endpoints)
    if not urls and job.provider is not None:
        urls = [tenant.endpoint_for(market, job)]
    if not urls:
        urls = list(tenant.candidates(market, job.terms.order, read.spec.allow).values())
    if not urls:
        raise ScriptError("no registered provider could take this job now; pass --endpoint URL")
    tenant.upload(market, sender.signer, ui, read, urls, job=job.job)


@cli.command("list", cls=MarketCommand)
@account_option
@common_options
def list_jobs(provider: Any, alias: str | None, deployments: Path, yes: bool) -> None:
    """Show the account's jobs; without --account, all."""
    chain = connect(provider)
    market = open_market(deployments, chain)
    requester = accounts.load(alias, chain, provider).address if alias else None
    jobs.show_list(market, jobs.find_all(market, requester), console(yes))


@cli.command(cls=MarketCommand)
@_job_argument
@common_options
def status(provider: Any, job_id: str, deployments: Path, yes: bool) -> None:
    """Show one job in full; JOB is its id or the first digits of it."""
    market = open_market(deployments, connect(provider))
    jobs.show(market, jobs.find(market, job_id), console(yes))


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory to make; default: results/ and the job's first digits.",
)
@_endpoint_option
@common_options
def fetch(
    provider: Any,
    alias: str | None,
    job_id: str,
    output: Path | None,
    endpoint: str | None,
    deployments: Path,
    yes: bool,
) -> None:
    """Download the result and check it against what was attested on chain.

    Exits with 5 when the job itself failed, after saving what there is and showing its log.
    """
    market, sender, ui = _open(provider, alias, deployments, yes)
    job = jobs.find(market, job_id)
    directory = output or Path("results") / jobs.short(job.job)
    tenant.fetch(market, sender.signer, ui, job, directory, endpoint)


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@common_options
def approve(provider: Any, alias: str | None, job_id: str, deployments: Path, yes: bool) -> None:
    """Accept the result and pay the provider now."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    endings.approve(market, sender, ui, jobs.find(market, job_id))


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@common_options
def refuse(provider: Any, alias: str | None, job_id: str, deployments: Path, yes: bool) -> None:
    """Burn the price and the provider's collateral of a job posted with --judged refusable."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    endings.refuse(market, sender, ui, jobs.find(market, job_id))


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@common_options
def cancel(provider: Any, alias: str | None, job_id: str, deployments: Path, yes: bool) -> None:
    """Take an open job off the market; the escrow becomes credit."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    endings.cancel(market, sender, ui, jobs.find(market, job_id))


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@common_options
def expire(provider: Any, alias: str | None, job_id: str, deployments: Path, yes: bool) -> None:
    """End a job whose provider missed the deadline; earns the bounty."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    endings.expire(market, sender, ui, jobs.find(market, job_id))


@cli.command(cls=MarketCommand)
@account_option
@_job_argument
@common_options
def finalize(provider: Any, alias: str | None, job_id: str, deployments: Path, yes: bool) -> None:
    """Pay the provider when the challenge window is over."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    endings.finalize(market, sender, ui, jobs.find(market, job_id))


@cli.command(cls=MarketCommand)
@account_option
@click.option("--receiver", type=ADDRESS, help="Who gets the money; default: the account.")
@common_options
def withdraw(
    provider: Any, alias: str | None, receiver: str | None, deployments: Path, yes: bool
) -> None:
    """Pull all credits: refunds, deposits, compensation, bounties."""
    market, sender, ui = _open(provider, alias, deployments, yes)
    credits.withdraw(market, sender, ui, receiver)
