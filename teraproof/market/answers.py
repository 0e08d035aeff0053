# SPDX-License-Identifier: Apache-2.0
"""What becomes of a job right after it was posted: who has taken it, or why nobody has yet."""

from __future__ import annotations

import time
from collections.abc import Mapping

from teraproof.amounts import show_time
from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError, counted
from teraproof.market import jobs
from teraproof.market.jobs import short
from teraproof.market.market import Market
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.terms import Status, status_of

_SECONDS = 5.0
_LOOK_SECONDS = 0.5
# What we have just sent: the agent will see that it is there.
_OURS = (Code.SPEC_MISSING, Code.INPUTS_MISSING)


def objections(
    market: Market, clients: Mapping[str, AgentClient], job: bytes, ui: Ui
) -> dict[str, str]:
    """What keeps agents from an open job, by their URLs, as far as they say so within seconds."""
    waiting = dict(clients)
    found: dict[str, str] = {}
    ui.doing("asking whether they take the job")
    end = time.monotonic() + _SECONDS
    while waiting and status_of(market.jobs.state(job, "latest")) is Status.OPEN:
        for url, client in list(waiting.items()):
            try:
                seen = client.job(job)
            except LocalError:
                continue  # it has not seen the job yet, or hiccups; nothing depends on it
            blocked = seen.get("blocked_by")
            note = one_line(seen.get("note") or "")
            if seen.get("status") != "open":
                del waiting[url]
            elif note and blocked is not None and blocked not in _OURS:
                ui.note(f"{url} does not take the job now: {note}")
                found[url] = note
                del waiting[url]
        if time.monotonic() > end:
            break
        if waiting:
            time.sleep(_LOOK_SECONDS)
    return found


def tell(market: Market, ui: Ui, job: bytes, refused: Mapping[str, str] = {}) -> str | None:
    """Say who has the job, or what to do while nobody has; the provider's owner, if one has it.

    `refused` are the objections of those that were asked.
    """
    found, name = jobs.find(market, job.hex()), short(job)
    now = market.now()
    if found.provider is not None:
        until = jobs.deadline(market, found) or now
        ui.step(
            f"{found.provider} has taken job {name} for {jobs.show_price(market, found)}, and "
            f"delivers by {show_time(until, now)}: job wait {name}"
        )
        return found.provider
    until = jobs.open_until(market, found)
    who = "nobody has taken it yet"
    if refused:
        who += f" ({counted(len(refused), 'provider')} would not, see above)"
    ui.note(
        f"job {name} is open, and {who}: a provider can until {show_time(until, now)}. Watch it "
        f"with job wait {name}, or take it back with job cancel {name}"
    )
    return None
