# SPDX-License-Identifier: Apache-2.0
"""A program of ours on a machine of the fleet, outside of every container, as a channel."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

import provider_agent
from provider_agent.errors import RunnerError
from provider_agent.runners.ray.wire import PIECE, STDERR, STDOUT

_WORKER = "provider_agent.prover.acceptance.worker"
_WAITING = 64  # pieces that nobody has read


class Program:
    """The worker of an acceptance challenge; see `lease.Shell`. It dies with this process."""

    def __init__(self) -> None:
        package = os.path.dirname(os.path.dirname(os.path.abspath(provider_agent.__file__)))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _WORKER, str(os.getpid())],
                env={**os.environ, "PYTHONPATH": package},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                process_group=0,
            )
        except OSError as error:
            raise RunnerError(f"the worker of a challenge does not start: {error}") from None
        self._pieces: queue.Queue[tuple[int, bytes]] = queue.Queue(_WAITING)
        assert self._process.stdout is not None and self._process.stderr is not None
        readers = [
            threading.Thread(target=self._read, args=(pipe, kind), daemon=True)
            for pipe, kind in ((self._process.stdout, STDOUT), (self._process.stderr, STDERR))
        ]
        for one in readers:
            one.start()
        threading.Thread(target=self._end, args=(readers,), daemon=True).start()

    def _read(self, pipe: IO[bytes], kind: int) -> None:
        with suppress(OSError, ValueError):
            while data := pipe.read(PIECE):
                self._pieces.put((kind, data))

    def _end(self, readers: list[threading.Thread]) -> None:
        for one in readers:
            one.join()
        self._process.wait()
        self._pieces.put((STDOUT, b""))

    def read(self) -> tuple[int, bytes]:
        """See `lease.Shell`."""
        return self._pieces.get()

    def write(self, data: bytes) -> None:
        """See `lease.Shell`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except OSError as error:
            raise RunnerError(f"the worker has ended: {error.strerror}") from None

    def finish(self) -> None:
        """See `lease.Shell`."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        """It has no terminal."""

    def exit_code(self) -> int | None:
        """See `lease.Shell`."""
        return self._process.poll()

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(queue.Full):
            self._pieces.put_nowait((STDOUT, b""))
