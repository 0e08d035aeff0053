# SPDX-License-Identifier: Apache-2.0
"""Disputes: open one, look, take the step that is due, appeal, convict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from teraproof.cli.frame import Needs, Result, Session, command
from teraproof.cli.values import JOB, URL
from teraproof.errors import CommandError, LocalError, WrongInput
from teraproof.protocol.errors import Code

if TYPE_CHECKING:
    from teraproof.market.jobs import Job

_FILE = click.Path(dir_okay=False, path_type=Path)
_job = click.argument("job_id", metavar="JOB", type=JOB)
_from_credit = click.option(
    "--from-credit", is_flag=True, help="Pay the bond from the account's credit in the market."
)


@click.group("dispute")
def cli() -> None:
    """Dispute a result: jurors run the job again; appeal, claim, look."""


@command(cli, Needs.ACCOUNT, "open")
@_job
@click.option(
    "--evidence",
    type=_FILE,
    help="What you say about it, a file of 1 MiB at most; its digest goes on chain.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Directory for the result; default: results/ and the job's first digits.",
)
@click.option(
    "--endpoint",
    type=URL,
    metavar="URL",
    help="URL of the provider's agent; default: as announced.",
)
@_from_credit
def open_dispute(
    session: Session,
    job_id: str,
    evidence: Path | None,
    output: Path | None,
    endpoint: str | None,
    from_credit: bool,
) -> Result:
    """Dispute the result of JOB, with a bond.

    The job was posted with --judged court, and its challenge window is not over. Fetches result and
    receipt first, if they are not here yet. A provider that does not serve them can be disputed,
    too.
    """
    import hashlib

    from teraproof.market import disputes
    from teraproof.market.evidence import read_file
    from teraproof.market.funds import Funds
    from teraproof.protocol.terms import ZERO_WORD

    digest = ZERO_WORD if evidence is None else hashlib.sha256(read_file(evidence)).digest()
    market, sender = session.market, session.sender
    job = _find(session, job_id)
    disputes.check_disputable(market, job, sender.address)
    served = _fetch(session, job, output, endpoint)
    funds = Funds.CREDIT if from_credit else Funds.AUTO
    done = disputes.open_dispute(market, sender, session.ui, job, digest, funds)
    if evidence is not None:
        session.ui.note(
            f"keep {evidence}: once jurors are drawn, dispute evidence {job_id} {evidence} hands "
            "it to them"
        )
    return {
        "job": "0x" + job.job.hex(),
        "bond": str(disputes.read(market, job).costs.dispute_bond),
        "evidence": "0x" + digest.hex(),
        "served": served,
        "block": done.block_number,
    }


@command(cli, Needs.ACCOUNT, "evidence")
@_job
@click.argument("file", metavar="FILE", type=_FILE)
def give_evidence(session: Session, job_id: str, file: Path) -> Result:
    """Hand FILE to the drawn jurors of JOB.

    It is what the dispute was opened with. It goes to each juror's own agent, until their time to
    commit is over; run it again for each jury. Agents vote by their own runs alone: it is for the
    owners of jurors to read.
    """
    from teraproof.market import evidence

    data, signer = evidence.read_file(file), session.signer
    job = _find(session, job_id)
    given = evidence.give(session.market, signer, session.ui, job, data)
    return {"job": "0x" + job.job.hex(), "jurors": evidence.to_json(given)}


@command(cli, Needs.CHAIN)
@_job
def status(session: Session, job_id: str) -> Result:
    """Show the dispute over JOB, and what comes next.

    Shows phase, deadlines, jurors, votes, and who can do what.
    """
    from teraproof.market import dispute_view

    job = _find(session, job_id)
    session.ui.doing("reading the dispute")
    return dispute_view.show(session.market, session.ui, job)


@command(cli, Needs.ACCOUNT)
@_job
@_from_credit
def appeal(session: Session, job_id: str, from_credit: bool) -> Result:
    """Appeal a ruling, with a bond.

    Asks for the largest jury, once. The loser of the ruling alone may do so.
    """
    from teraproof.market import disputes
    from teraproof.market.funds import Funds

    sender = session.sender
    job = _find(session, job_id)
    funds = Funds.CREDIT if from_credit else Funds.AUTO
    done = disputes.appeal(session.market, sender, session.ui, job, funds)
    return {"job": "0x" + job.job.hex(), "done": "appeal", "block": done.block_number}


@command(cli, Needs.ACCOUNT, "next")
@_job
def take_next(session: Session, job_id: str) -> Result:
    """Take the step that is due (anyone).

    It draws the jury, asks for a larger one, or carries out the ruling. Exits with 4 when none is
    due.
    """
    from teraproof.market import disputes

    sender = session.sender
    job = _find(session, job_id)
    step = disputes.advance(session.market, sender, session.ui, job)
    return {"job": "0x" + job.job.hex(), "done": step.name.lower()}


@command(cli, Needs.ACCOUNT)
@_job
def claim(session: Session, job_id: str) -> Result:
    """Carry out the final ruling (anyone).

    It moves the price, the bonds, the jurors' fees and the fines. Exits with 4 before the ruling
    is final.
    """
    from teraproof.market import disputes

    sender = session.sender
    job = _find(session, job_id)
    done = disputes.conclude(session.market, sender, session.ui, job)
    return {
        "job": "0x" + job.job.hex(),
        "done": "conclude",
        "lines": disputes.settled(session.market, done),
        "block": done.block_number,
    }


@command(cli, Needs.ACCOUNT)
@_job
@click.option("--first", type=_FILE, required=True, help="Attestation that the operator signed.")
@click.option("--second", type=_FILE, help="Another one; default: the one on chain.")
def convict(session: Session, job_id: str, first: Path, second: Path | None) -> Result:
    """End JOB by two signed results of its operator.

    One is enough if it names another specification than the job's. Anyone may do it. The files
    hold what an agent answers to GET /v1/jobs/JOB. A stranger earns the bounty.
    """
    from teraproof.market import convictions

    market, sender = session.market, session.sender
    job = _find(session, job_id)
    spec = job.terms.order.spec
    one = convictions.read_statement(first, spec)
    other = None if second is None else convictions.read_statement(second, spec)
    done = convictions.convict(market, sender, session.ui, job, one, other)
    return {"job": "0x" + job.job.hex(), "done": "convict", "block": done.block_number}


# ---------------------------------------------------------------------- parts


def _fetch(session: Session, job: Job, output: Path | None, endpoint: str | None) -> bool:
    """Have the result here, or say why not; whether it is. A tenant can dispute without it."""
    from teraproof.deals import origin_of
    from teraproof.market import jobs, tenant
    from teraproof.protocol.digests import manifest, result_digest

    ui, market = session.ui, session.market
    directory = output or Path("results") / jobs.short(job.job)
    assert job.attested is not None  # it is disputable
    if directory.exists():
        if not directory.is_dir():
            raise WrongInput(f"{directory} is not a directory; name another", path=str(directory))
        if result_digest(manifest(directory), origin_of(job.attested)) == job.attested.result:
            ui.step(f"{directory} holds the attested result")
            return True
        ui.note(f"{directory} is not the attested result; pass --output to fetch that elsewhere")
        return False
    ui.doing("fetching the result")
    try:
        tenant.fetch(market, session.signer, ui, job, directory, endpoint)
    except LocalError as error:
        if error.code is Code.JOB_FAILED:
            return True
        if isinstance(error, CommandError) and "path" in error.details:
            raise  # our own disk: that it cannot be fetched is not the provider's fault
        ui.note(f"the result was not served ({error}); jurors judge that, too")
        return False
    return True


def _find(session: Session, job_id: str) -> Job:
    from teraproof.market import jobs

    market = session.market
    session.ui.doing("looking for the job")
    return jobs.find(market, job_id)
