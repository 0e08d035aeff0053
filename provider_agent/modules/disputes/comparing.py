# SPDX-License-Identifier: Apache-2.0
"""What follows from a result of our own and the attested one, both on the disk: a vote, or that the
job has to be run again.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from provider_agent.comparator.compare import Comparator, Files, Verdict
from provider_agent.runners.base import Reason
from teraproof.courts.votes import Vote
from teraproof.protocol import digests
from teraproof.protocol.comparison import NUMERIC
from teraproof.protocol.digests import Entry
from teraproof.protocol.dispute import Case
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.outcome import FAILURE, same_failure

log = logging.getLogger(__name__)

#: What lies in the folder of a job, and in that of a run of our own.
OWN, FIRST, THEIRS = "own", "first", "theirs"
FILES, MANIFEST = "files", "manifest"
_SIGNALS = 128  # exit codes from here on: a signal has ended it
_BY_ITSELF = (Reason.EXITED.value, Reason.OUTPUTS.value)


@dataclass(frozen=True)
class Compared:
    """A vote and whose seal it shows, or that the job has to be run again."""

    vote: Vote = Vote.WITHHELD
    shows: str = ""
    again: bool = False


@dataclass(frozen=True)
class Look:
    """What our own run says alone: the vote, or what has to be seen before. `seal` opens a result
    that is ours, too.
    """

    found: Compared | None = None
    seal: bytes | None = None


class Comparing:
    """Two results of one job. `place` is its folder."""

    def __init__(self, place: Path, case: Case, spec: JobSpec) -> None:
        self._place, self._case, self._spec = place, case, spec

    def look(self) -> Look:
        """What our own run says alone."""
        own, case = self._own(), self._case
        if digests.result_digest(own, case.origin) == case.result:
            # Right; but a result that nobody can have is worth nothing to its tenant.
            return Look(seal=digests.seal(own, case.origin))
        failed = any(entry.path == FAILURE for entry in digests.parse_manifest(own))
        return Look() if failed or self.is_numeric else Look(Compared(Vote.WRONG, OWN))

    @property
    def is_numeric(self) -> bool:
        """Whether numbers are compared, in a run of its own."""
        return self._spec.compare is not None and self._spec.compare.rule == NUMERIC

    def compare(self, listed: list[Entry] | None, comparator: Comparator, name: str) -> Compared:
        """What follows from both; `listed` is None where the provider shows none to us. Takes
        minutes where a comparison is run, under the `name`. Raises RunnerError.
        """
        own = self._own()
        if listed is None:
            return self._failed(own)
        mine = digests.parse_manifest(own)
        failed = any(entry.path == FAILURE for entry in mine)
        if failed and self._is_same_failure(listed):
            mine = [entry for entry in mine if entry.path != FAILURE]
            listed = [entry for entry in listed if entry.path != FAILURE]
        elif failed:
            return self._failed(own)
        if not self.is_numeric:
            return Compared(Vote.RIGHT, THEIRS) if mine == listed else self._failed(own)
        rule = self._spec.compare
        assert rule is not None  # numeric
        found = comparator.compare(
            name,
            rule,
            Files(self._place / OWN / FILES, mine),
            Files(self._place / THEIRS, listed),
        )
        log.info("dispute %s: %s %s", self._case.job.hex()[:12], found.verdict, found.reason)
        # What the rule cannot compare is nobody's lie: who wrote the order chose the rule.
        vote = Vote.WRONG if found.verdict is Verdict.DIFFERENT else Vote.RIGHT
        return Compared(vote, THEIRS)

    def _failed(self, own: bytes) -> Compared:
        """Our own run failed in another way than what is attested. A run that fails twice alike by
        itself says WRONG; what a limit or a signal has ended says nothing of the result.
        """
        if not (self._place / FIRST).exists():
            return Compared(again=True)
        first = (self._place / FIRST / MANIFEST).read_bytes()
        said = json.loads((self._place / OWN / FILES / FAILURE).read_bytes())
        code, reason = said["exit_code"], said["reason"]
        by_itself = reason in _BY_ITSELF and (code is None or code < _SIGNALS)
        if first == own and by_itself:
            return Compared(Vote.WRONG, OWN)
        return Compared(Vote.WITHHELD)

    def _is_same_failure(self, listed: list[Entry]) -> bool:
        if not any(entry.path == FAILURE for entry in listed):
            return False
        ours, theirs = self._place / OWN / FILES / FAILURE, self._place / THEIRS / FAILURE
        most = 4 * ours.stat().st_size + 4_096
        return theirs.stat().st_size <= most and same_failure(
            ours.read_bytes(), theirs.read_bytes()
        )

    def _own(self) -> bytes:
        return (self._place / OWN / MANIFEST).read_bytes()
