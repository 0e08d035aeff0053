# SPDX-License-Identifier: Apache-2.0
"""What an error means for the loop: written here, and nowhere else.

- Somebody else on our key, and a database that cannot be used, end the agent.
- A node's fault, a full disk and a bug are of the part that met them. That part is tried again,
  after a growing pause, and the others go on: jobs are running and deadlines near.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provider_agent.core.health import Check
from provider_agent.core.metrics import Metrics
from provider_agent.errors import KeyInUse
from provider_agent.store.errors import StoreError, explain
from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError

log = logging.getLogger(__name__)

_MAX_PAUSE = 60.0  # seconds before a part that failed is tried again


@dataclass(slots=True)
class _Part:
    """How a part of the cycle has fared. Times are of the policy's clock."""

    since: float
    """When it last went well, or when it was first tried."""
    failures: int = 0  # in a row
    not_before: float = 0.0


class Policy:
    """Runs the parts of a cycle. `pause` is the seconds between two cycles; `max_age` those after
    which a part that has not gone well makes the agent unfit for work.
    """

    def __init__(
        self,
        database: Path,
        metrics: Metrics,
        *,
        pause: float,
        max_age: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._metrics = database, metrics
        self._pause, self._max_age, self._clock = pause, max_age, clock
        self._parts: dict[str, _Part] = {}

    def run(self, name: str, work: Callable[[], object]) -> bool:
        """Do a part of the cycle, unless it is still in its pause; whether it went well.

        Raises KeyInUse and StoreError.
        """
        part = self._parts.setdefault(name, _Part(since=self._clock()))
        if self._clock() < part.not_before:
            return False
        try:
            work()
        except (KeyInUse, StoreError):
            raise
        except sqlite3.Error as error:
            said = explain(self._database, error)
            if said.code is Code.DATABASE_DAMAGED:
                raise said from error
            log.warning("%s: %s", name, said)
        except TeraproofError as error:
            log.warning("%s: %s", name, error)
        except Exception:
            log.exception("%s: this cycle failed", name)
        else:
            part.since, part.failures = self._clock(), 0
            self._metrics.went_well(name)
            return True
        part.failures += 1
        part.not_before = self._clock() + min(_MAX_PAUSE, self._pause * 2 ** min(part.failures, 6))
        self._metrics.failed(name)
        return False

    def wait(self, name: str) -> float:
        """Seconds for which a part rests because it has failed; 0 when it may run."""
        part = self._parts.get(name)
        return 0.0 if part is None else max(0.0, part.not_before - self._clock())

    def checks(self) -> list[Check]:
        """For the readiness report: each part that was run, and whether it works."""
        now = self._clock()
        found = []
        for name, part in list(self._parts.items()):
            age = max(0.0, now - part.since)
            detail = "" if part.failures == 0 else f"failing for {age:.0f} s; see the log"
            found.append(Check(name, part.failures == 0 or age <= self._max_age, detail))
        return found


@contextmanager
def contained(what: str) -> Iterator[None]:
    """One thing of many, such as a job: a bug that it shows is logged, and the others go on.

    What is not a bug of the thing itself goes up: an error of a node or of the database.
    """
    try:
        yield
    except (ChainError, StoreError, sqlite3.Error):
        raise
    except Exception:
        log.exception("%s", what)
