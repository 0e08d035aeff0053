# SPDX-License-Identifier: Apache-2.0
"""Puts the inputs of a run into the job's directory; the stored files never get there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from provider_agent.errors import RunnerError
from provider_agent.runners import disk, linux
from provider_agent.runners.base import MIB, RunRequest

_LINK_FROM = 64 * 1024  # bytes; a smaller input that stands at several paths is simply copied again


def sizes(run: RunRequest) -> list[int]:
    """The bytes of each file that is copied. RunnerError where an input is not there."""
    found = []
    for path, source in _unlinked(run).items():
        try:
            found.append(source.stat().st_size)
        except OSError as error:
            raise RunnerError(f"input {path} cannot be copied: {error}") from error
    # Names and directories take room, too.
    parents = {parent for path in run.inputs for parent in PurePosixPath(path).parents}
    return found + [0] * (len(run.inputs) - len(found) + len(parents))


def _unlinked(run: RunRequest) -> dict[str, Path]:
    """The inputs that need room of their own: each large file once, small ones at every path."""
    seen: set[Path] = set()
    found = {}
    for path, source in run.inputs.items():
        if source not in seen:
            found[path] = source
        if source.is_file() and source.stat().st_size >= _LINK_FROM:
            seen.add(source)
    return found


def copy(run: RunRequest, work: Path, go_on: Callable[[], None]) -> None:
    """Copies the inputs. Raises OSError where there is no room, what `go_on` raises, which is
    called again and again, else RunnerError.

    A large file that stands at several paths is stored once: its paths share blocks where the file
    system can do that, and are else names of one copy, which is read-only, because what a job
    wrote to one path would show at the others.
    """
    times = Counter(run.inputs.values())
    copies: dict[Path, Path] = {}
    for path, source in run.inputs.items():
        target = work / path
        go_on()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            if source in copies:
                with suppress(OSError):  # a file system without links: one more copy
                    os.link(copies[source], target)
                    continue
            with open(source, "rb") as stored, open(target, "xb") as copy:
                if not linux.clone_file(stored.fileno(), copy.fileno()):
                    while chunk := stored.read(MIB):
                        go_on()
                        copy.write(chunk)
                    if times[source] > 1 and copy.tell() >= _LINK_FROM:
                        copies[source] = target
                        mode &= 0o555
                os.fchmod(copy.fileno(), mode)
        except OSError as error:
            if disk.is_full(error):
                raise
            raise RunnerError(f"input {path} cannot be copied: {error}") from error


def give(directory: Path, uid: int) -> None:
    """Makes a tree that we just built the property of a run's user."""
    os.chown(directory, uid, uid)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(parent, name), uid, uid, follow_symlinks=False)
