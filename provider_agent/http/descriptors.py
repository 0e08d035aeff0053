# SPDX-License-Identifier: Apache-2.0
"""Open files: as many as the system grants, and enough of them kept for the agent's own work."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace

from provider_agent.http.limits import ApiLimits

log = logging.getLogger(__name__)

#: For the database, runs, nodes and proofs: no connection of a stranger takes them.
RESERVED = 256
_PER_CONNECTION = 2  # its socket, and the file that it sends or takes
_FEWEST = 4


def open_limits() -> ApiLimits:
    """Raise the limit of open files; the API's limits that fit below it."""
    return fitting(ApiLimits(), open_files())


def open_files() -> int:
    """Raise the soft limit of open files to the hard one; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # some systems say "unlimited" and mean a number
        log.debug("the limit of open files stays: %s", error)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def fitting(limits: ApiLimits, files: int) -> ApiLimits:
    """`limits` with no more connections than `files` open files leave room for."""
    if files == resource.RLIM_INFINITY:
        return limits
    most = max(_FEWEST, (files - RESERVED) // _PER_CONNECTION)
    if most >= limits.connections:
        return limits
    log.warning(
        "only %s files may be open, so the API takes %s connections at once; raise the limit "
        "(ulimit -n, LimitNOFILE)",
        files,
        most,
    )
    return replace(
        limits, connections=most, connections_per_address=min(most, limits.connections_per_address)
    )
