# SPDX-License-Identifier: Apache-2.0
"""Faults that an operator's own signatures show: no jury is needed, and anyone may tell.

An operator that has signed two results of one job, or an attestation of it for another
specification, is convicted in one transaction. A stranger earns the bounty, but not for a job that
is in dispute. All keys answer that were the provider's from the assignment to the attestation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teraproof.deals import attestation_of
from teraproof.errors import CommandError, LocalError, WrongInput, of_file
from teraproof.market import outcomes
from teraproof.market.jobs import Job, short, show_price
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol import messages, signatures
from teraproof.protocol.dispute import Statement
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_WORD, Record, Status, assignment_of
from teraproof.rpc.types import Receipt

_MOST_BYTES = 1 << 20
_CONVICTABLE = (Status.ASSIGNED, Status.ATTESTED, Status.DISPUTED)


@dataclass(frozen=True)
class Signed:
    """What an operator has said of a job. The signature is empty for what is recorded on chain."""

    statement: Statement
    signature: bytes = b""


def read_statement(path: Path, spec: bytes) -> Signed:
    """A signed attestation from a file: what an agent answers to `GET /v1/jobs/{id}`, or its
    `attestation` alone. `spec` is the specification of an attestation that names none. WrongInput
    when it is not one.
    """
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
        given = document.get("attestation") or document
        named = given.get("spec")
        statement = Statement(
            spec if named is None else _word(named),
            _word(given["result"]),
            _word(given["receipt"]),
            _time(given["started"]),
            _time(given["finished"]),
        )
        return Signed(statement, signatures.normalised(signatures.read(given["signature"])))
    except OSError as error:
        raise of_file(error, path, "cannot read") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LocalError):
        raise WrongInput(
            f"{path}: not a signed attestation; it needs result, receipt, started, finished and "
            "signature, as an agent shows them of a job"
        ) from None


def convict(
    market: Market, sender: Sender, ui: Ui, job: Job, first: Signed, second: Signed | None
) -> Receipt:
    """End a job by its operator's own word (anyone). Without `second` the first is compared with
    what is recorded. CommandError (NO_FAULT) when they show no fault, and before anything is sent.
    """
    name = short(job.job)
    if job.status not in _CONVICTABLE or job.accepted is None:
        raise CommandError(
            f"job {name} is {job.status.name.lower()}; only one that is assigned, attested or "
            "disputed can end by a conviction",
            Code.NOT_OPEN,
        )
    provider = job.accepted.provider
    operator = _signer(market, job, first)
    _check_served(market, job, operator)
    other = _second(market, job, first, second, operator)
    fault = "another specification" if other is None else "two results of one job"
    ui.table(
        f"Convict the provider of {name}",
        ("what", "value"),
        [
            ("provider", provider),
            ("operator", operator),
            ("it has signed", fault),
            ("first result", "0x" + first.statement.result.hex()),
            *([] if other is None else [("second result", "0x" + other.statement.result.hex())]),
        ],
    )
    ui.ask(
        f"Convict {provider}: {show_price(market, job)} go back to {job.terms.requester}, and the "
        "collateral is seized?"
    )
    if job.status is Status.DISPUTED:
        ui.note("its dispute goes on, for its bonds alone: see dispute status")
    # A record of the right form, where nothing of it counts.
    nothing = Record(provider, 0, 0, 0, ZERO_WORD)
    shown = first if other is None else other
    data = market.jobs.convict(
        job.terms,
        nothing if job.status is Status.ASSIGNED else job.record(),
        first.statement,
        first.signature,
        shown.statement,
        shown.signature,
    )
    receipt = transact(sender, ui, "convict", market.jobs, data)
    outcomes.tell(market, ui, job.terms, receipt, sender.address)
    return receipt


def _second(
    market: Market, job: Job, first: Signed, second: Signed | None, operator: str
) -> Signed | None:
    """The statement that contradicts the first; None where the first is a fault by itself."""
    if first.statement.spec != job.terms.order.spec:
        return None
    if second is not None:
        signer = _signer(market, job, second)
        if signer != operator:
            raise CommandError(
                f"the two attestations have different signers, {operator} and {signer}: without "
                "--second the first is compared with what is on chain",
                Code.NO_FAULT,
            )
    elif job.attested is not None:
        said = attestation_of(job.terms, job.attested)
        second = Signed(
            Statement(said.spec, said.result, said.receipt, said.started, said.finished)
        )
    else:
        raise CommandError(
            f"job {short(job.job)} has no result on chain yet: pass a second attestation with "
            "--second",
            Code.NO_FAULT,
        )
    if second.statement.result == first.statement.result:
        raise CommandError(
            "both statements have the same result: they show no fault", Code.NO_FAULT
        )
    return second


def _signer(market: Market, job: Job, said: Signed) -> str:
    """Who has signed a statement about a job. WrongInput where that cannot be read."""
    message = messages.Attestation(job.job, *said.statement.abi_tuple())
    try:
        return messages.recover(market.jobs_domain, message, said.signature)
    except LocalError as error:
        raise WrongInput(f"the attestation's {error}") from None


def _check_served(market: Market, job: Job, signer: str) -> None:
    """CommandError (NO_FAULT) unless a key could attest the job at any moment."""
    assert job.accepted is not None  # it was taken
    if job.attested is not None:
        since, until = job.attested.assigned_at, job.attested.attested_at
    else:
        taken = assignment_of(market.jobs.state(job.job, "latest"))
        since, until = 0 if taken is None else taken.assigned_at, market.now()
    provider = job.accepted.provider
    if not market.staking.spoke_for(signer, provider, since, until, "latest"):
        raise CommandError(
            f"the attestation is signed by {signer} for this job, and that key was not the "
            f"operator of {provider} while the job was assigned",
            Code.NO_FAULT,
        )


def _word(value: Any) -> bytes:
    found = bytes.fromhex(value.removeprefix("0x"))
    if len(found) != 32:
        raise ValueError("not a digest")
    return found


def _time(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("not a time")
    return value
