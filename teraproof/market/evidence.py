# SPDX-License-Identifier: Apache-2.0
"""What a tenant says of a result that it disputes: handed to each drawn juror's own agent.

Its sha256 stands on chain since the dispute was opened. No server of the tenant's is needed, and
not the provider, who would be the last to pass it on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teraproof.contracts.jobs import Disputed
from teraproof.courts.docket import Phase
from teraproof.errors import CommandError, LocalError, counted, of_file
from teraproof.market import disputes, providers
from teraproof.market.jobs import Job, short
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.tenant import connect
from teraproof.market.ui import Ui
from teraproof.protocol.dispute import EVIDENCE_BYTES
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_WORD


@dataclass(frozen=True)
class Given:
    """What became of it at one juror's agent: "" where it is there, else why not."""

    juror: str
    trouble: str


def read_file(file: Path) -> bytes:
    """The bytes of a file that fits. CommandError (INPUT_INVALID)."""
    try:
        with file.open("rb") as opened:
            data = opened.read(EVIDENCE_BYTES + 1)
    except OSError as error:
        raise of_file(error, file, "cannot read") from None
    if len(data) > EVIDENCE_BYTES:
        raise CommandError(
            f"{file} has more than {EVIDENCE_BYTES >> 20} MiB, which no juror takes; name its "
            "parts in a shorter text",
            Code.INPUT_INVALID,
        )
    return data


def give(market: Market, signer: Signer, ui: Ui, job: Job, data: bytes) -> list[Given]:
    """Hand the evidence of a dispute to the jurors that may still commit (requester).

    CommandError where the dispute has no such evidence or no such jurors now, and where no juror
    has it at the end.
    """
    name, account = short(job.job), str(signer.address)
    dispute = disputes.read(market, job)
    if dispute.case.requester != account:
        raise CommandError(
            f"job {name} belongs to {dispute.case.requester}, not to {account}", Code.NOT_REQUESTER
        )
    told = market.jobs.find(Disputed, market.registry.start_block, job=job.job)
    digest = told[-1].evidence if told else ZERO_WORD
    if digest == ZERO_WORD:
        raise CommandError(
            f"the dispute over {name} was opened without evidence: jurors take none for it",
            Code.INPUT_INVALID,
        )
    if hashlib.sha256(data).digest() != digest:
        raise CommandError(
            f"the file is not what the dispute over {name} was opened with; sha256 "
            f"0x{digest.hex()} is on chain",
            Code.DIGEST_MISMATCH,
        )
    if dispute.phase is not Phase.COMMITTING:
        raise CommandError(
            f"no juror of {name} can take it now: {disputes.waits(dispute, market.now())}",
            Code.NOT_READY,
        )
    endpoints = providers.endpoints(market)
    owners = list(dict.fromkeys(place.juror for place in dispute.current.places if place.juror))
    given = [
        Given(owner, _give(market, signer, ui, job, data, endpoints.get(owner))) for owner in owners
    ]
    rows = [(one.juror, one.trouble or "has it") for one in given]
    ui.table(f"Evidence for the jurors of {name}", ("juror", "evidence"), rows)
    missing = sum(1 for one in given if one.trouble)
    if missing == len(given):
        raise CommandError(
            f"no juror of {name} has the evidence: {given[0].trouble if given else 'none sits'}; "
            "run it again in a minute",
            Code.AGENT_UNREACHABLE,
        )
    if missing:
        ui.note(f"{counted(missing, 'juror')} without it: run it again in a minute")
    return given


def to_json(given: list[Given]) -> list[dict[str, Any]]:
    """For documents."""
    return [
        {"juror": one.juror, "has_it": not one.trouble, "trouble": one.trouble} for one in given
    ]


def _give(
    market: Market, signer: Signer, ui: Ui, job: Job, data: bytes, endpoint: str | None
) -> str:
    """Hand it to one agent; why it does not have it, "" where it does."""
    if endpoint is None:
        return "announces no endpoint"
    ui.doing(f"asking {endpoint}")
    try:
        with connect(market, signer, endpoint) as client:
            client.give_evidence(job.job, data)
    except LocalError as error:
        return str(error)
    return ""
