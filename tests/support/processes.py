# SPDX-License-Identifier: Apache-2.0
"""Processes of this machine, read from /proc."""

from __future__ import annotations

import contextlib
import os
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
