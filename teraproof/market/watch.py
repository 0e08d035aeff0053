# SPDX-License-Identifier: Apache-2.0
"""A job while it goes on: its log as it is written, and its end as the chain has it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_time
from teraproof.client.jobs import AgentClient
from teraproof.deals import origin_of
from teraproof.errors import CommandError, LocalError
from teraproof.market import jobs, tenant
from teraproof.market.jobs import Job, short
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Outcome, by_status, of_result
from teraproof.protocol.terms import Status, status_of

_LOOK_SECONDS = 1.0
# A result may wait in a block that is still to come.
_GRACE_SECONDS = 30
_LIVE = (Status.OPEN, Status.ASSIGNED)


def harmless(text: str) -> str:
    """A stranger's line without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "?" for letter in text)


def log(
    market: Market,
    signer: Signer,
    job: Job,
    url: str,
    show: Callable[[str], None],
    *,
    follow: bool = False,
    tail: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Show a job's log, from its beginning or (`tail`) its end, and with `follow` go on until the
    job is not running any more. Returns how many bytes were shown.

    CommandError when the signer is not the requester; what the agent answers otherwise.
    """
    if job.terms.requester != signer.address:
        raise CommandError(
            f"job {short(job.job)} belongs to {job.terms.requester}, not to {signer.address}; "
            "logs are given to the requester only",
            Code.NOT_REQUESTER,
        )
    offset: int | None = None if tail else 0
    rest, shown = "", 0
    with tenant.connect(market, signer, url) as client:
        while True:
            ended = not follow or not _runs(market, job)
            piece = _piece(client, job, offset, follow and not ended)
            if piece is not None:
                offset = piece["next"]
                shown += piece["next"] - piece["offset"]
                *whole, rest = (rest + piece["text"]).split("\n")
                for line in whole:
                    show(harmless(line))
                if offset < piece["size"]:
                    continue  # there is more now
            if ended:
                break
            sleep(_LOOK_SECONDS)
    if rest:
        show(harmless(rest))
    return shown


def _runs(market: Market, job: Job) -> bool:
    return status_of(market.jobs.state(job.job, "latest")) in _LIVE


def _piece(
    client: AgentClient, job: Job, offset: int | None, patient: bool
) -> dict[str, Any] | None:
    """The next piece; None while there is no log yet and we are `patient`."""
    try:
        found = client.logs(job.job, offset)
    except LocalError as error:
        if patient and error.retryable:
            return None
        raise
    numbers = [found.get(name) for name in ("offset", "next", "size")]
    fits = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    if not fits or not isinstance(found.get("text"), str) or found["next"] < found["offset"]:
        raise LocalError("the agent sent a malformed log", Code.ANSWER_INVALID)
    if found["offset"] < found["next"] or found["next"] >= found["size"]:
        return found
    raise LocalError("the agent's log does not go on", Code.ANSWER_INVALID)


@dataclass(frozen=True)
class Last:
    """The last second in which what a job waits for can come."""

    at: int
    """Unix seconds."""
    what: str
    """What can come until then."""
    over: str
    """What is so after it, and what to do."""


def _last(market: Market, job: Job, now: int) -> Last:
    found, name = jobs.find(market, job.job.hex()), short(job.job)
    if found.accepted is None:
        at = jobs.open_until(market, found)
        until = show_time(at, now)
        over = f"nobody took it by {until}; job cancel {name} gives the price back"
        return Last(at, f"a provider can take it until {until}", over)
    at = jobs.deadline(market, found) or 0
    until = show_time(at, now)
    over = (
        f"its provider did not deliver by {until}; job expire {name} gives the price back and "
        "seizes the collateral"
    )
    return Last(at, f"its result can come until {until}", over)


def wait(
    market: Market,
    ui: Ui,
    job: Job,
    *,
    signer: Signer | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Job, Outcome | None]:
    """Wait until there is a result or an end, at most `seconds`; the job then, and its outcome.

    The chain alone does not say whether a result with outputs is that of a success: its receipt
    does, which the agent gives to the requester, the `signer`. Without it the outcome is None.
    CommandError: JOB_FAILED when the job did not succeed, or when the time in which somebody could
    take it or deliver it has passed; NOT_READY when `seconds` are over.
    """
    began, block_time = clock(), market.now()
    end = None if seconds is None else began + seconds
    shown, last = None, Last(0, "", "")
    while True:
        status = status_of(market.jobs.state(job.job, "latest"))
        # A chain at rest makes no blocks, and a machine that slept has a clock that stood still.
        now = max(block_time + int(clock() - began), market.now())
        if status in _LIVE and (status is not shown or now > last.at):
            last = _last(market, job, now)
        if status is not shown:
            until = f": {last.what}" if status in _LIVE else ""
            ui.step(f"job {short(job.job)} is {status.name.lower()}{until}")
            shown = status
        if status not in _LIVE:
            break
        if now > last.at + _GRACE_SECONDS:
            raise CommandError(
                f"job {short(job.job)} did not succeed: {last.over}",
                Code.JOB_FAILED,
                status=status.name.lower(),
                until=last.at,
            )
        ui.doing("waiting for a provider" if status is Status.OPEN else "waiting for the result")
        if end is not None and clock() > end:
            raise CommandError(
                f"job {short(job.job)} is still {status.name.lower()}: {last.what}; wait again, "
                "or see job status",
                Code.NOT_READY,
                status=status.name.lower(),
                until=last.at,
            )
        sleep(max(_LOOK_SECONDS, market.chain.poll_seconds))
    done = jobs.find(market, job.job.hex())
    outcome, said = by_status(done.status), done.outcome
    if outcome is None:
        assert done.attested is not None  # it is neither live nor ended without a result
        ending = of_result(done.attested.result, origin_of(done.attested))
        if ending is None and signer is not None:
            ending = tenant.ending_of(market, signer, done)
        outcome, said = (None, said) if ending is None else (ending.outcome, str(ending))
    if outcome not in (None, Outcome.SUCCEEDED):
        raise CommandError(
            f"job {short(job.job)} did not succeed: {said}",
            Code.JOB_FAILED,
            status=done.status.name.lower(),
            outcome=outcome.value,
        )
    ui.step("it succeeded" if outcome is not None else "its result is there; job fetch checks it")
    return done, outcome
