# SPDX-License-Identifier: Apache-2.0
"""For tenants: check, post or hire, watch, fetch the result, approve, cancel, expire, withdraw.

The callbacks import what they need: the list of commands answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from teraproof.amounts import TPF_DECIMALS, rate, seconds, units
from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command
from teraproof.errors import CommandError, WrongInput

if TYPE_CHECKING:
    from teraproof.market.jobs import Job
    from teraproof.market.packages import Package

_EXTRA_SECONDS = 600  # to deliver, beyond the job's own timeout

_package = click.argument("package", type=click.Path(path_type=Path))
_job = click.argument("job_id", metavar="JOB")
_funds = click.option(
    "--funds",
    type=click.Choice(["auto", "credit", "allowance", "permit"]),
    default="auto",
    show_default=True,
    help="Where the escrow comes from: credit in the market, allowance, or permit.",
)
_score = click.option(
    "--min-score",
    default="0",
    metavar="SPEED",
    help='Proven throughput that the provider must have free, such as "500T" operations a second.',
)
_allow = click.option(
    "--allow",
    default="",
    metavar="OWNER,...",
    help="Owner addresses of the only providers that may take the job.",
)
_endpoint = click.option("--endpoint", help="URL of the agent; default: as announced.")
_endpoints = click.option(
    "--endpoint", "endpoints", multiple=True, help="Agents to send the inputs to."
)


@click.group("job")
def cli() -> None:
    """Post jobs, watch them, fetch results."""


@command(cli, Needs.ACCOUNT)
@_package
@click.option("--price", required=True, help="Highest price, in payment tokens; escrowed.")
@click.option("--start-price", help="Price offered first; default: the highest price.")
@click.option("--auction", default="0", help='Time in which the price rises, such as "10 minutes".')
@click.option("--duration", help="Time to deliver; default: the job's timeout and 10 minutes.")
@click.option("--collateral", default="0", help="TPF that the provider puts up.")
@click.option("--min-stake", default="0", help="TPF that must be staked behind the provider.")
@_score
@_allow
@click.option(
    "--judged",
    type=click.Choice(["trusted", "refusable"]),
    default="trusted",
    show_default=True,
    help="Who judges the result: nobody, or you, who may burn price and collateral.",
)
@_endpoints
@_funds
def post(
    session: Session,
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
) -> Result:
    """Offer the job in PACKAGE (a directory with a job.json) to all providers, or those named."""
    from teraproof.market import jobs, tenant
    from teraproof.market.market import fresh_nonce
    from teraproof.protocol import allow_list
    from teraproof.protocol.terms import Judged, Order

    read = _restricted(package, allow)
    market, sender, ui = session.market, session.sender, session.ui
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
        duration=read.spec.timeout_seconds + _EXTRA_SECONDS
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
    placed = jobs.post(market, sender, ui, order, jobs.Funds(funds))
    tenant.upload(market, sender.signer, ui, read, urls, job=placed.job)
    return {"job": "0x" + placed.job.hex()}


@command(cli, Needs.ACCOUNT)
@_package
@click.option("--provider", "owner", type=ADDRESS, help="Owner address of the provider to hire.")
@_score
@_endpoint
@_funds
def hire(
    session: Session,
    package: Path,
    owner: str | None,
    min_score: str,
    endpoint: str | None,
    funds: str,
) -> Result:
    """Ask one provider for a price for PACKAGE, and hire it."""
    from teraproof.market import jobs, packages, tenant

    read = packages.read(package)
    market, sender, ui = session.market, session.sender, session.ui
    if endpoint is None:
        owner, url = tenant.announced(market, owner)
    else:
        url = endpoint
    wanted = rate(min_score, "--min-score")
    if wanted and owner is not None:
        tenant.check_score(market, owner, wanted)
    ui.doing(f"asking {url} for a price")
    quote, signature = tenant.quote(market, sender.signer, read, url, owner)
    if wanted and owner is None:
        hired = market.staking.provider_of(quote.operator, "latest")
        tenant.check_score(market, hired, wanted)
    placed = jobs.hire(market, sender, ui, quote, signature, jobs.Funds(funds))
    tenant.upload(market, sender.signer, ui, read, [url], job=placed.job)
    return {"job": "0x" + placed.job.hex(), "price": str(quote.price)}


@command(cli, Needs.ACCOUNT)
@_job
@_package
@_allow
@_endpoints
def upload(
    session: Session, job_id: str, package: Path, allow: str, endpoints: tuple[str, ...]
) -> Result:
    """Send the inputs of a job that is on chain already (again), with its --allow if it had one."""
    from teraproof.market import jobs, tenant

    read = _restricted(package, allow)
    market, signer = session.market, session.signer
    job = _find(session, job_id)
    if job.terms.order.spec != read.spec.digest():
        raise WrongInput(f"{package} is not the package of job {jobs.short(job.job)}")
    urls = list(endpoints)
    if not urls and job.provider is not None:
        urls = [tenant.endpoint_for(market, job)]
    if not urls:
        urls = list(tenant.candidates(market, job.terms.order, read.spec.allow).values())
    if not urls:
        raise CommandError("no registered provider could take this job now; pass --endpoint URL")
    done = tenant.upload(market, signer, session.ui, read, urls, job=job.job)
    return {"job": "0x" + job.job.hex(), "uploaded_to": done}


@command(cli, Needs.EITHER, "list")
def list_jobs(session: Session) -> Result:
    """Show the account's jobs; without an account, all."""
    from teraproof.market import jobs

    market, account = session.market, session.account
    session.ui.doing("reading the jobs")
    found = jobs.find_all(market, account)
    jobs.show_list(market, found, session.ui)
    now = market.now()
    return {"jobs": [jobs.to_json(market, job, now) for job in found]}


@command(cli, Needs.CHAIN)
@_job
def status(session: Session, job_id: str) -> Result:
    """Show one job in full; JOB is its id or the first digits of it."""
    from teraproof.market import jobs

    job = _find(session, job_id)
    jobs.show(session.market, job, session.ui)
    return jobs.to_json(session.market, job, session.market.now())


@command(cli, Needs.ACCOUNT)
@_job
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory to make; default: results/ and the job's first digits.",
)
@_endpoint
def fetch(session: Session, job_id: str, output: Path | None, endpoint: str | None) -> Result:
    """Download the result and check it against what was attested on chain.

    Exits with 5 when the job itself failed, after saving what there is and showing its log.
    """
    from teraproof.market import jobs, tenant

    market, signer = session.market, session.signer
    job = _find(session, job_id)
    directory = output or Path("results") / jobs.short(job.job)
    session.ui.doing("fetching the result")
    fetched = tenant.fetch(market, signer, session.ui, job, directory, endpoint)
    return {
        "job": "0x" + job.job.hex(),
        "outcome": fetched.ending.outcome.value,
        "directory": str(fetched.directory),
        "receipt": str(fetched.receipt),
        "files": [{"path": entry.path, "size": entry.size} for entry in fetched.files],
    }


def _ending(name: str, help: str) -> None:
    @command(cli, Needs.ACCOUNT, name)
    @_job
    def end(session: Session, job_id: str) -> Result:
        from teraproof.market import endings

        market, sender = session.market, session.sender
        job = _find(session, job_id)
        done = getattr(endings, name)(market, sender, session.ui, job)
        return {"job": "0x" + job.job.hex(), "done": name, "block": done.block_number}

    end.help = help


_ending("approve", "Accept the result and pay the provider now.")
_ending(
    "refuse",
    "Burn the price and the provider's collateral of a job posted with --judged refusable.",
)
_ending("cancel", "Take an open job off the market; the escrow becomes credit.")
_ending("expire", "End a job whose provider missed the deadline; earns the bounty.")
_ending("finalize", "Pay the provider when the challenge window is over.")


@command(cli, Needs.ACCOUNT)
@click.option("--receiver", type=ADDRESS, help="Who gets the money; default: the account.")
def withdraw(session: Session, receiver: str | None) -> Result:
    """Pull all credits: refunds, deposits, compensation, bounties."""
    from teraproof.market import credits

    done = credits.withdraw(session.market, session.sender, session.ui, receiver)
    return {"payment": str(done.payment), "tpf": str(done.stake)}


# ---------------------------------------------------------------------- parts


def _restricted(package: Path, allow: str) -> Package:
    from teraproof.market import packages

    owners = [owner.strip() for owner in allow.split(",") if owner.strip()]
    return packages.restricted(packages.read(package), owners)


def _find(session: Session, job_id: str) -> Job:
    from teraproof.market import jobs

    market = session.market
    session.ui.doing("looking for the job")
    return jobs.find(market, job_id)
