# SPDX-License-Identifier: Apache-2.0
"""Votes on the disk before they are cast: never two on one result in one round.

A juror that has lost them finds its vote by its key and by what the chain keeps.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from provider_agent.durable import sync, sync_directory
from provider_agent.errors import RunnerError
from teraproof.courts.votes import Opinion, Vote
from teraproof.protocol.dispute import Case

VOTES = "votes"  # the directory in the agent's data


class VoteBook:
    """One file a dispute and round, below a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def of(self, case: Case, number: int) -> Opinion | None:
        """The vote in a round; None before it is kept. RunnerError where it cannot be read."""
        place = self._place(case, number)
        try:
            value = json.loads(place.read_bytes())
            return Opinion(Vote(value["vote"]), bytes.fromhex(value["seal"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise RunnerError(
                f"{place} is damaged: it holds a vote; restore or delete it"
            ) from None

    def keep(self, case: Case, number: int, opinion: Opinion) -> Opinion:
        """Keep a vote for good; the one to cast, which is the earlier one if there was one."""
        known = self.of(case, number)
        if known is not None:
            return known
        place = self._place(case, number)
        part = self._root / f".{place.name}.{secrets.token_hex(4)}"
        try:
            part.write_text(json.dumps({"vote": int(opinion.vote), "seal": opinion.seal.hex()}))
            sync(part)
            os.link(part, place)  # fails where there is one already
            sync_directory(self._root)
        except OSError as error:
            raise RunnerError(
                f"a vote cannot be kept in {self._root}: {error.strerror or error}"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return opinion

    def forget(self, job: bytes) -> None:
        """Delete the votes on a job whose dispute is over."""
        for place in self._root.glob(f"{job.hex()}-*"):
            place.unlink(missing_ok=True)

    def _place(self, case: Case, number: int) -> Path:
        # A reorg may bring another result of the same job.
        return self._root / f"{case.job.hex()}-{number}-{case.result.hex()[:16]}"
