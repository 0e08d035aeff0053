# SPDX-License-Identifier: Apache-2.0
"""What the routes of jobs are wired to. Everything here is called from worker threads, several at
once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from provider_agent.http.limits import ApiLimits
from provider_agent.http.uploads import InputStorage, Permit
from provider_agent.modules.jobs.documents import JobDirectory
from provider_agent.modules.jobs.evidence import EvidenceDirectory
from teraproof.protocol import jobspec, messages


class SpecStore(Protocol):
    """Where specifications are kept, by the sha256 of their canonical bytes."""

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        """Keep a specification; a second time changes nothing."""
        ...

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification, or None."""
        ...

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        """Specifications that no job names, of one account or of all: how many, how many bytes."""
        ...

    def spec_bytes(self) -> int:
        """How many bytes all specifications take."""
        ...

    def is_named(self, digest: bytes) -> bool:
        """Whether a job on chain names the specification."""
        ...


class QuoteIssuer(Protocol):
    """Makes and signs quotes."""

    def spec(self, digest: bytes) -> jobspec.JobSpec | None:
        """A specification that is here."""
        ...

    def issue(
        self, requester: str, spec: jobspec.JobSpec, judged: int = 0
    ) -> tuple[messages.Quote, bytes]:
        """A quote for this requester and its signature. Refused tells the tenant why not."""
        ...


@dataclass(frozen=True)
class JobsApi:
    """Everything that the routes need."""

    jobs: JobDirectory
    evidence: EvidenceDirectory
    specs: SpecStore
    inputs: InputStorage
    may_upload: Callable[[str, str, int], Permit | None]
    """(address, sha256, size) -> the permit for an input of a job or quote of theirs. Refused when
    it is one, and the provider would not take the job."""
    has_room: Callable[[int, bool], bool] = lambda size, named: True
    """(bytes, whether a job names it) -> whether the disk has room for a specification."""
    quotes: QuoteIssuer | None = None
    limits: ApiLimits = field(default_factory=ApiLimits)
