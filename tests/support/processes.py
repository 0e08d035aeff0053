# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, read from /proc, and those that a test starts as copies of itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def with_argument(part: str) -> dict[int, str]:
    """Process ids and command lines of the processes that name `part`, this one left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if part in line:
                found[int(entry.name)] = line.strip()
    return found


def forked(run: Callable[[], str]) -> tuple[str, int]:
    """What a function says in a process of its own, and that one's exit code.

    The process has loaded what the test has: a new one takes a second for it.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 70
        try:
            os.write(writing, run().encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    return text, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
