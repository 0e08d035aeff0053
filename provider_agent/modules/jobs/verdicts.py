# SPDX-License-Identifier: Apache-2.0
"""What our settings say of a specification, kept: a stranger's large one is read once, not in each
cycle.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from provider_agent.modules.jobs.book import JobBook
from provider_agent.modules.jobs.policy import Policy
from teraproof.errors import Refused
from teraproof.protocol.errors import known


@dataclass(frozen=True)
class Verdict:
    """The least price in payment token units, and why this machine cannot run the job, if so."""

    least: int
    refusal: Refused | None


class Verdicts:
    """See the module. They count for the settings that they were made by."""

    def __init__(self, book: JobBook, policy: Policy) -> None:
        self._book, self._policy = book, policy

    def of(self, digest: bytes) -> Verdict | None:
        """The verdict on a specification; None when that is not here, or not valid."""
        row, rules = self._book.store.verdict(digest), self._policy.rules
        if row is not None and row.rules == rules:
            refusal = None
            if row.code:
                refusal = Refused(known(row.code), row.line, **json.loads(row.details))
            return Verdict(row.least, refusal)
        spec = self._book.spec_named(digest)
        if spec is None:
            return None
        made = Verdict(self._policy.price(spec), self._policy.refuse_spec(spec))
        why = made.refusal
        self._book.store.put_verdict(
            digest,
            rules,
            made.least,
            "" if why is None else why.code.value,
            "" if why is None else str(why),
            json.dumps({} if why is None else why.details),
        )
        return made
