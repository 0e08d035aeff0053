# SPDX-License-Identifier: Apache-2.0
"""Places for what tenants and strangers have open at one machine of a fleet.

A machine takes a number of connections at one time (`server.AT_ONCE`), and the agent needs some to
keep its leases. So streams have a bound of their own. When it is reached, the lease with the most
gives way to one that has fewer: whoever fills up a machine takes nothing from others.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from provider_agent.errors import RunnerError
from teraproof.protocol.errors import Code

MOST = 160
"""Connections to containers, logs and programs of one machine. Each takes two of its places."""
MOST_SHELVES = 32
"""Leases of one machine whose files are read or laid out at one time."""


class Stream:
    """One place. `leave` may be called again."""

    def __init__(self, owner: Streams, lease: str) -> None:
        self._owner, self.lease = owner, lease
        #: Ends what is open there; None while it is being opened.
        self.cut: Callable[[], None] | None = None

    def leave(self) -> None:
        """It is free again."""
        self._owner.drop(self)


class Streams:
    """See the module. Any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._open: list[Stream] = []  # the newest last
        self._lock = threading.Lock()

    def enter(self, lease: str) -> Stream:
        """A place for a lease. Raises RunnerError where all are taken and it has its share."""
        made, ended = Stream(self, lease), None
        with self._lock:
            if len(self._open) >= self._most:
                ended = self._newest_of_another(lease)
                if ended is None:
                    line = f"{self._most} connections to its machine are open; close some"
                    raise RunnerError(line, Code.NOT_READY)
                self._open.remove(ended)
            self._open.append(made)
        if ended is not None and ended.cut is not None:
            ended.cut()
        return made

    def drop(self, stream: Stream) -> None:
        """See `Stream.leave`."""
        with self._lock:
            if stream in self._open:
                self._open.remove(stream)

    def _newest_of_another(self, lease: str) -> Stream | None:
        """Of the lease that has the most; None where that has hardly more than this one."""
        counts = Counter(one.lease for one in self._open)
        most, number = counts.most_common(1)[0]
        if number <= counts[lease] + 1:
            return None
        theirs = (one for one in reversed(self._open) if one.lease == most)
        return next((one for one in theirs if one.cut is not None), None)
