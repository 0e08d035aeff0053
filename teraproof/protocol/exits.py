# SPDX-License-Identifier: Apache-2.0
"""The exit codes of all commands."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all commands, by the kind of what went wrong."""

    OK = 0
    FAULT = 1
    INPUT = 2
    REFUSED = 3
    UNAVAILABLE = 4
    JOB_FAILED = 5
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """For the documentation."""
        return _EXITS[self]


_EXITS = {
    Exit.OK: "Done.",
    Exit.FAULT: "It failed, or a check did; a bug shows a traceback as well.",
    Exit.INPUT: "An option, a file or a setting is wrong.",
    Exit.REFUSED: "A contract, a provider or the person at the terminal said no.",
    Exit.UNAVAILABLE: "A node or an agent does not answer; try again.",
    Exit.JOB_FAILED: "The command worked, the job did not succeed.",
    Exit.INTERRUPTED: "Stopped by Ctrl-C; the same command goes on.",
}
