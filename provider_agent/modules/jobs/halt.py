# SPDX-License-Identifier: Apache-2.0
"""When no job is taken and no quote signed, whatever is free: after a job of ours has missed its
deadline, while the machine's clock is wrong, and when the chain has not been looked at for long.

A missed deadline says that something here does not work, and the next job would pay for it. So
acceptance stops until a trial of the way from run to attestation has passed. Two missed jobs with
none delivered in between are more than a trial can explain: a person has to look, and to say
`provider-agent resume`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from provider_agent.core.background import Background
from provider_agent.core.following import Following
from provider_agent.core.health import Check
from provider_agent.store import Store
from teraproof.errors import Refused, TeraproofError, counted
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

STATE = "jobs.halt"  # in the store's meta
RESUME = "resume"  # a file in the data directory: a person has looked
_ALONE = 2  # missed jobs in a row that a trial does not explain
_KNOWN = 1_000  # missed jobs that are remembered, so that none counts twice
_AGAIN = 60.0  # seconds between two trials


class Halt:
    """See the module. `trial` raises TeraproofError when the machine could not deliver. Asked from
    any thread, told by the loop's.
    """

    def __init__(
        self,
        store: Store,
        trial: Callable[[], object],
        data_dir: Path,
        following: Following,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._trial, self._resume = store, trial, data_dir / RESUME
        self._following, self._monotonic = following, monotonic
        self._background = Background(threads=1)
        self._tried: float | None = None
        self._fault = ""  # of the last trial
        kept = json.loads(store.meta(STATE) or "{}")
        self._known: list[str] = kept.get("known", [])
        self._missed: int = kept.get("missed", 0)  # in a row
        self._halted: bool = kept.get("halted", False)

    def close(self) -> None:
        """Wait for a trial under way."""
        self._background.close()

    # ------------------------------------------------------------------ told

    def missed(self, job_id: bytes) -> None:
        """A job of ours was not delivered in time; a second time changes nothing."""
        name = job_id.hex()
        if name in self._known:
            return
        self._known = [*self._known, name][-_KNOWN:]
        self._missed, self._halted, self._tried = self._missed + 1, True, None
        log.error("job %s missed its deadline: no job is taken until it is clear why", name[:12])
        self._save()

    def delivered(self) -> None:
        """A job of ours was attested."""
        if self._missed and not self._halted:
            self._missed = 0
            self._save()

    def look(self) -> None:
        """Try whether jobs can be delivered again. Called in each cycle."""
        if self._resume.exists():
            self._resume.unlink(missing_ok=True)
            log.warning("told to go on: jobs are taken again")
            self._missed = 0
            self._go_on()
        if not self._halted or self._missed >= _ALONE:
            return
        now = self._monotonic()
        if self._tried is not None and now - self._tried < _AGAIN:
            return
        try:
            if self._background.result("trial", lambda: self._trial() or True) is None:
                return
        except TeraproofError as error:
            self._tried, self._fault = now, str(error)
            log.error("a trial after the missed job has failed: %s", error)
            return
        except Exception as error:
            # A full disk, or a bug: what is owed goes on, and the trial comes again.
            self._tried, self._fault = now, str(error)
            log.exception("a trial after the missed job has failed")
            return
        log.warning("a trial after the missed job has passed: jobs are taken again")
        self._go_on()

    def _go_on(self) -> None:
        self._halted, self._tried, self._fault = False, None, ""
        self._save()

    def _save(self) -> None:
        state = {"known": self._known, "missed": self._missed, "halted": self._halted}
        self._store.set_meta(STATE, json.dumps(state))

    # ------------------------------------------------------------------ asked

    def refuse(self) -> Refused | None:
        """Why nothing is promised now; None when nothing is in the way."""
        if self._halted:
            line = "this provider has missed a deadline and takes no jobs for now"
            return Refused(Code.AGENT_NOT_READY, line)
        return self._following.refuse()

    def check(self) -> Check:
        """For the readiness report."""
        return Check("deadlines", not self._halted, halted(self._store, self._fault))


def halted(store: Store, fault: str = "") -> str:
    """Whether and why no jobs are taken after a missed one, in one line; empty when they are."""
    kept = json.loads(store.meta(STATE) or "{}")
    if not kept.get("halted"):
        return ""
    missed = f"{counted(kept['missed'], 'job')} missed the deadline"
    if kept["missed"] >= _ALONE:
        return f"{missed} in a row; find out why, then run: provider-agent resume"
    if fault:
        return f"{missed}, and a trial has failed; it is repeated every minute"
    return f"{missed}; a trial is under way"
