# SPDX-License-Identifier: Apache-2.0
"""For tenants: check, post or hire, watch, fetch the result, approve, cancel, expire, withdraw.

The callbacks import what they need: the list of commands answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from teraproof.cli.frame import ADDRESS, Needs, Result, Session, command
from teraproof.cli.values import JOB, OWNERS, PRICE, RATE, SECONDS, TPF, URL
from teraproof.errors import CommandError, WrongInput, counted
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from teraproof.market.jobs import Job
    from teraproof.market.packages import Package

_EXTRA_SECONDS = 600  # to deliver, beyond the job's own timeout
_AUCTION_SECONDS = 600

_package = click.argument("package", type=click.Path(path_type=Path))
_job = click.argument("job_id", metavar="JOB", type=JOB)
_funds = click.option(
    "--funds",
    type=click.Choice(["auto", "credit", "allowance", "permit"]),
    default="auto",
    show_default=True,
    help="Where the escrow comes from: credit in the market, allowance, or permit.",
)
_score = click.option(
    "--min-score",
    type=RATE,
    default="0",
    metavar="SPEED",
    help='Proven throughput that the provider must have free, such as "500 TOPS" (INT8).',
)
_allow = click.option(
    "--allow",
    type=OWNERS,
    metavar="OWNER,...",
    help="Owner addresses of the only providers that may take the job.",
)
_endpoint = click.option(
    "--endpoint", type=URL, metavar="URL", help="URL of the agent; default: as announced."
)
_endpoints = click.option(
    "--endpoint",
    "endpoints",
    type=URL,
    metavar="URL",
    multiple=True,
    help="Agents to send the inputs to.",
)


_who_judges = click.option(
    "--judged",
    type=click.Choice(["trusted", "refusable", "court"]),
    default="trusted",
    show_default=True,
    help="Who judges the result: nobody; you, who may burn price and collateral; or jurors, who "
    "run the job again when you dispute it.",
)
_gpu_class = click.option(
    "--gpu",
    metavar="CLASS",
    help="With --judged court: the GPU class that jurors need, such as nvidia-h100.",
)


@click.group("job")
def cli() -> None:
    """Post jobs, watch them, fetch results."""


@command(cli, Needs.NOTHING)
@_package
def check(session: Session, package: Path) -> Result:
    """Show the faults of PACKAGE, or what it would ask of a provider. No chain.

    Shows all faults of the schema, up to 16, then the first of the rest.
    """
    from teraproof.amounts import show_seconds
    from teraproof.market import packages
    from teraproof.market.conditions import capability_of, choices
    from teraproof.protocol.comparison import Comparison

    read, faults = packages.examine(package)
    if read is None:
        for fault in faults:
            session.ui.note(fault)
        what = counted(len(faults), "fault")
        raise WrongInput(f"{package} is not a job: {what}, listed above", faults=faults)
    spec = read.spec
    wanted = spec.resources
    rows = [
        ("name", spec.name),
        ("specification", "0x" + spec.digest().hex()),
        ("runtime", spec.runtime),
        ("inputs", f"{len(spec.inputs)}, {spec.input_bytes():,} bytes"),
        ("outputs", ", ".join(spec.outputs)),
        ("processors", str(wanted.cpus)),
        ("memory", f"{wanted.memory_mb:,} MiB"),
        ("disk", f"{wanted.disk_mb:,} MiB"),
        ("GPUs", str(wanted.gpus)),
        ("timeout", show_seconds(spec.timeout_seconds)),
        ("results compared", str(spec.compare or Comparison()) if spec.deterministic else "never"),
    ]
    session.ui.table(f"Job in {read.directory}", ("what", "value"), rows)
    session.ui.note(choices(spec))
    session.ui.step("no fault was found")
    return {
        "package": str(read.directory),
        "spec": "0x" + spec.digest().hex(),
        "capability": capability_of(spec) if spec.deterministic else None,
        "faults": [],
    }


@command(cli, Needs.ACCOUNT)
@_package
@click.option(
    "--price", type=PRICE, required=True, help="Highest price, in payment tokens; escrowed."
)
@click.option(
    "--start-price",
    type=PRICE,
    help="Price offered first; default: the lowest that a provider takes, if that is less.",
)
@click.option(
    "--auction",
    type=SECONDS,
    help='Time in which the price rises, such as "10 minutes"; default: that, if it has to rise.',
)
@click.option(
    "--duration", type=SECONDS, help="Time to deliver; default: the job's timeout and 10 minutes."
)
@click.option(
    "--collateral", type=TPF, default="0", help="TPF that the provider puts up; default: 0."
)
@click.option(
    "--min-stake", type=TPF, default="0", help="TPF that must be staked behind the provider."
)
@_score
@_allow
@_who_judges
@_gpu_class
@_endpoints
@_funds
@click.option(
    "--wait-for-provider", "patient", is_flag=True, help="Post although nobody would take it now."
)
def post(
    session: Session,
    package: Path,
    price: str,
    start_price: str | None,
    auction: int | None,
    duration: int | None,
    collateral: int,
    min_stake: int,
    min_score: int,
    allow: tuple[str, ...] | None,
    judged: str,
    gpu: str | None,
    endpoints: tuple[str, ...],
    funds: str,
    patient: bool,
) -> Result:
    """Offer the job in PACKAGE (a directory with a job.json) to all providers, or those named.

    Asks the providers first, and refuses when none would take it.
    """
    from teraproof.market import answers, feasible, jobs, notebook, providers, tenant
    from teraproof.market.funds import Funds
    from teraproof.market.market import fresh_nonce
    from teraproof.protocol import allow_list
    from teraproof.protocol.terms import Order

    read = _restricted(package, allow)
    market, sender, ui = session.market, session.sender, session.ui
    highest = market.price(price, "--price")
    lowest = highest if start_price is None else market.price(start_price, "--start-price")
    if lowest > highest:
        raise WrongInput("--start-price: above --price, the highest price; lower it")
    usual = 0 if lowest == highest else _AUCTION_SECONDS
    order = Order(
        spec=read.spec.digest(),
        start_price=lowest,
        max_price=highest,
        collateral=collateral,
        duration=read.spec.timeout_seconds + _EXTRA_SECONDS if duration is None else duration,
        auction=usual if auction is None else auction,
        min_stake=min_stake,
        min_score=min_score,
        allow_root=allow_list.root(read.spec.allow),
        nonce=fresh_nonce(),
        judged=_judged(read, judged, gpu),
    )
    if order.duration < read.spec.timeout_seconds:
        raise WrongInput(
            f"--duration: shorter than the job's own timeout of {read.spec.timeout_seconds} s"
        )
    jobs.check_order(market, order)
    ui.doing("reading the providers")
    verdicts = feasible.ask_providers(market, ui, providers.read_all(market), read.spec, order)
    asked = feasible.lowest_price(verdicts)
    rises = start_price is None and auction is None and asked is not None and asked < highest
    if rises and asked is not None:
        order = replace(order, start_price=asked, auction=_AUCTION_SECONDS)
    if verdicts:
        feasible.show(market, ui, verdicts, order)
    if not patient and not endpoints:
        instead = "change the job or the order, or pass --wait-for-provider"
        feasible.require(verdicts, instead)
    if rises and asked is not None:
        ui.note(
            f"a provider takes it from {market.show_price(asked)}: the offer starts there, and "
            f"rises to {market.show_price(highest)} within {_AUCTION_SECONDS // 60} minutes"
        )
    elif asked is not None and asked < order.start_price:
        ui.note(f"a provider takes it from {market.show_price(asked)}; you offer more at once")
    takers = [v.provider.endpoint for v in verdicts if v.takes_it and v.provider.endpoint]
    urls = list(endpoints) or takers[: tenant.MAX_PROVIDERS]
    placed = jobs.post(market, sender, ui, order, Funds(funds))
    notebook.note(read.spec)
    refused = tenant.upload(market, sender.signer, ui, read, urls, job=placed.job).objections
    taken_by = answers.tell(market, ui, placed.job, refused)
    if taken_by is None and urls and len(refused) == len(urls) and not patient:
        raise CommandError(
            f"job {jobs.short(placed.job)} is posted, but no provider that has its inputs takes "
            "it now; see job status, or take it back with job cancel",
            Code.NOBODY_TAKES_IT,
            job="0x" + placed.job.hex(),
        )
    return {
        "job": "0x" + placed.job.hex(),
        "start_price": str(order.start_price),
        "max_price": str(order.max_price),
        "taken_by": taken_by,
        "providers": [feasible.to_json(verdict) for verdict in verdicts],
    }


@command(cli, Needs.ACCOUNT)
@_package
@click.option("--provider", "owner", type=ADDRESS, help="Owner address of the provider to hire.")
@_score
@_who_judges
@_gpu_class
@_endpoint
@_funds
def hire(
    session: Session,
    package: Path,
    owner: str | None,
    min_score: int,
    judged: str,
    gpu: str | None,
    endpoint: str | None,
    funds: str,
) -> Result:
    """Hire one provider for PACKAGE at its price.

    Without --provider it is the cheapest one that would take the job. You agree to its price
    before it binds itself, so that nobody's slot is held for nothing.
    """
    from teraproof.market import answers, hiring, notebook, packages, tenant
    from teraproof.market.funds import Funds

    read = packages.read(package)
    market, sender, ui = session.market, session.sender, session.ui
    wanted = hiring.Wanted(read, min_score, _judged(read, judged, gpu), owner, endpoint)
    hired = hiring.hire(market, sender, ui, wanted, Funds(funds))
    job = hired.placed.job
    notebook.note(read.spec)
    tenant.upload(market, sender.signer, ui, read, [hired.url], job=job)
    taken_by = answers.tell(market, ui, job)
    return {
        "job": "0x" + job.hex(),
        "price": str(hired.quote.price),
        "endpoint": hired.url,
        "taken_by": taken_by,
    }


@command(cli, Needs.ACCOUNT)
@_job
@_package
@_allow
@_endpoints
def upload(
    session: Session,
    job_id: str,
    package: Path,
    allow: tuple[str, ...] | None,
    endpoints: tuple[str, ...],
) -> Result:
    """Send the inputs of a job that is on chain already (again), with its --allow if it had one."""
    from teraproof.market import answers, jobs, tenant

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
    taken_by = answers.tell(market, session.ui, job.job, done.objections)
    uploaded = list(done.endpoints)
    return {"job": "0x" + job.job.hex(), "uploaded_to": uploaded, "taken_by": taken_by}


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


@command(cli, Needs.ACCOUNT)
@_job
@click.option("--follow", "-f", is_flag=True, help="Go on until the job is not running any more.")
@click.option("--tail", is_flag=True, help="Begin with the end: the last 64 KiB.")
@_endpoint
def logs(session: Session, job_id: str, follow: bool, tail: bool, endpoint: str | None) -> Result:
    """Show what the job has printed, as its provider has it."""
    from teraproof.market import tenant, watch

    market, signer = session.market, session.signer
    job = _find(session, job_id)
    url = tenant.endpoint_for(market, job, endpoint)
    lines: list[str] = []

    def show(text: str) -> None:
        lines.append(text)
        session.ui.line(text)

    session.ui.doing(f"reading the log at {url}")
    size = watch.log(market, signer, job, url, show, follow=follow, tail=tail)
    if not size:
        session.ui.note("it printed nothing")
    return {"job": "0x" + job.job.hex(), "bytes": size, "lines": lines if session.as_json else []}


@command(cli, Needs.EITHER)
@_job
@click.option(
    "--timeout", type=SECONDS, help='Give up after this time, such as "1 hour"; default: never.'
)
def wait(session: Session, job_id: str, timeout: int | None) -> Result:
    """Wait until the job has a result or has ended. Exits with 5 when it did not succeed.

    With the account that posted it, the receipt of the run is read: it alone says whether a
    result with outputs is that of a success.
    """
    from teraproof.market import jobs, watch

    signer = None if session.account is None else session.signer
    job = _find(session, job_id)
    done, outcome = watch.wait(session.market, session.ui, job, signer=signer, seconds=timeout)
    shown = jobs.to_json(session.market, done, session.market.now())
    return {**shown, "outcome": shown["outcome"] if outcome is None else outcome.value}


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


def _restricted(package: Path, allow: tuple[str, ...] | None) -> Package:
    from teraproof.market import packages

    return packages.restricted(packages.read(package), allow or ())


def _judged(package: Package, judged: str, gpu: str | None) -> int:
    """How an order says that its result is judged."""
    from teraproof.market import notebook
    from teraproof.protocol.capability import beyond, of_job
    from teraproof.protocol.terms import Judged

    if judged != "court":
        if gpu is not None:
            raise WrongInput("--gpu is for orders with --judged court")
        return Judged[judged.upper()]
    unfit = beyond(package.spec)
    if unfit is not None:
        raise WrongInput(f"--judged court: no juror could run the job again: {unfit}; see job.json")
    needed = of_job(package.spec, gpu)
    notebook.note_capability(needed)
    return needed.number()


def _find(session: Session, job_id: str) -> Job:
    from teraproof.market import jobs

    market = session.market
    session.ui.doing("looking for the job")
    return jobs.find(market, job_id)
