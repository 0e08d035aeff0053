# SPDX-License-Identifier: Apache-2.0
"""Who judges the jobs of this provider now: told by the module that follows disputes, asked by the
one that serves evidence.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Panels:
    """See the module. Called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn: dict[bytes, dict[str, int]] = {}

    def tell(self, job: bytes, drawn: Mapping[str, int]) -> None:
        """Say who may read the evidence of a job: accounts (EIP-55), each with the last second of
        its time (unix seconds of the chain). With an empty mapping nobody may any more.
        """
        with self._lock:
            if drawn:
                self._drawn[job] = dict(drawn)
            else:
                self._drawn.pop(job, None)

    def until(self, job: bytes, account: str) -> int | None:
        """The last second in which an account may read the evidence; None if it is not drawn."""
        with self._lock:
            return self._drawn.get(job, {}).get(account)
