# SPDX-License-Identifier: Apache-2.0
"""Agents as forks of one process that has the installed agent loaded, so that a start is cheap.

Sweeps start hundreds of agents. Each is a process of its own, with its own memory, files and
signals; only the time for importing Python modules is saved. `crashing_agent.py` is the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.support.anvil import ROOT

_PYTHON = ROOT / ".venv-agent" / "bin" / "python"
_SCRIPT = Path(__file__).with_name("crashing_agent.py")


class Process(Protocol):
    """What both kinds of agent process can do."""

    pid: int

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""

    def kill(self) -> None:
        """kill -9."""

    def send_signal(self, sig: int, /) -> None:
        """Any other signal."""


class Nursery:
    """The forking process. Use as a context manager; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [str(_PYTHON), str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.communicate()

    def ask(self, **request: Any) -> Any:
        """Send an order and read the answer."""
        assert self._process is not None and self._process.stdin and self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
        die_at: str = "",
        diary: str = "",
        containers: str = "",
    ) -> Forked:
        """Start an agent. `containers` is a file that plays those of leases.

        `die_at` names the point at which it kills itself. With a `diary` (a file) it writes down
        each point that it passes, and with `die_at="each"` it dies at each that is not in there.
        """
        pid = self.ask(
            arguments=list(arguments),
            directory=str(directory),
            environment=dict(environment),
            log=str(log),
            die_at=die_at,
            diary=diary,
            containers=containers,
        )
        return Forked(self, int(pid))


@dataclass
class Forked:
    """A forked agent, to be used like a Popen."""

    nursery: Nursery
    pid: int
    returncode: int | None = None
    _asking: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs."""
        with self._asking:  # the system tells it once
            if self.returncode is None:
                self.returncode = self.nursery.ask(poll=self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended."""
        end = time.monotonic() + (60 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("agent", timeout or 60)
            time.sleep(0.05)
        return code

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(9)

    def send_signal(self, sig: int, /) -> None:
        """Any other signal. The process id stays ours until `poll` has seen the end."""
        if self.poll() is None:
            os.kill(self.pid, sig)
