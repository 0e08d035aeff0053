# SPDX-License-Identifier: Apache-2.0
"""Sessions with agents that outlive a command, so that an account signs in once in their time.

A session's token opens what its account may see at one agent, and moves no money. It lies in a file
that only its user can read. A file that does not fit is deleted: that costs one signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teraproof.state import state_directory

# What a bearer token may be (RFC 6750), so that nothing else gets into a header.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,512}={0,2}")
_BYTES = 4_096
_MARGIN = 60.0  # seconds before its end in which a session is not begun with
_LONGEST = 7 * 86_400.0  # seconds that a session is kept, whatever the agent says


def is_token(text: str) -> bool:
    """Whether a text can be the token of a session."""
    return _TOKEN.fullmatch(text) is not None


@dataclass(frozen=True)
class Sessions:
    """The sessions of one deployment on one chain. `clock` gives unix seconds."""

    chain_id: int
    genesis: str
    """Hash of block 0: a new chain with an old chain's id is another one."""
    jobs: str
    """Address of the Jobs contract."""
    folder: Path = field(default_factory=lambda: state_directory() / "sessions")
    clock: Callable[[], float] = time.time

    def of(self, url: str, account: str) -> KeptSession:
        """The session of an account with the agent at a URL, kept or not."""
        belongs = {
            "chain_id": self.chain_id,
            "genesis": self.genesis.lower(),
            "jobs": self.jobs.lower(),
            "url": url,
            "account": account.lower(),
        }
        return KeptSession(belongs, self.folder, self.clock)


class KeptSession:
    """One session on the disk. A disk that fails keeps nothing, and stops no command."""

    def __init__(self, belongs: dict[str, Any], folder: Path, clock: Callable[[], float]) -> None:
        name = hashlib.sha256(json.dumps(belongs, sort_keys=True).encode()).hexdigest()
        self.path = folder / f"{name}.json"
        self._belongs, self._clock = belongs, clock

    def token(self) -> str | None:
        """The token, unless there is none, it ends soon, or the file is not ours alone."""
        try:
            kept = json.loads(_read(self.path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            kept = None
        if isinstance(kept, dict) and kept.get("belongs") == self._belongs:
            token, expires = kept.get("token"), kept.get("expires")
            if isinstance(token, str) and _holds(token, expires, self._clock()):
                return token
        self.forget()
        return None

    def keep(self, token: str, expires: object) -> None:
        """Keep a session that the agent has just opened, until `expires` (unix seconds)."""
        now = self._clock()
        if isinstance(expires, int):
            expires = min(expires, int(now + _LONGEST))
        if not _holds(token, expires, now):
            return
        text = json.dumps({"belongs": self._belongs, "token": token, "expires": expires})
        with contextlib.suppress(OSError):
            folder = self.path.parent
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _sweep(folder, now - _LONGEST)
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".new")  # mode 0600
            with os.fdopen(handle, "w") as out:
                out.write(text)
            Path(temporary).replace(self.path)

    def forget(self) -> None:
        """Delete it: the agent does not know it, or it does not fit."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def _holds(token: str, expires: object, now: float) -> bool:
    """Whether it is a session that goes on for a while, and not for longer than any is kept."""
    if not isinstance(expires, int) or isinstance(expires, bool) or not is_token(token):
        return False
    return now + _MARGIN < expires <= now + _LONGEST


def _read(path: Path) -> bytes:
    """A file of ours that nobody else can read or write. Raises OSError when it is not."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a file of ours")
        if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(f"{path} can be read or written by others")
        data = file.read(_BYTES + 1)
    if len(data) > _BYTES:
        raise ValueError(f"{path} is longer than a session")
    return data


def _sweep(folder: Path, before: float) -> None:
    """Delete what has ended long ago: nobody asks for it any more."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                path.unlink()
