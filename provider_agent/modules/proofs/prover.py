# SPDX-License-Identifier: Apache-2.0
"""The worker process of the proofs, as the agent sees it: one at a time, started and stopped."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import provider_agent
from provider_agent.prover import worker
from provider_agent.prover.folder import ProofFolder, Task
from provider_agent.prover.turns import Turn
from provider_agent.prover.worker import MEASURE, OPEN, PROVE, WAIT
from teraproof.pog.errors import EngineError
from teraproof.pog.format import ZERO, Shape

log = logging.getLogger(__name__)

_PAUSE, _MAX_PAUSE = 2.0, 60.0  # seconds before a failed worker is started again
_MEASURE_SECONDS = 300.0
# A small task says enough of a CPU; a GPU has not begun to work on it.
_MEASURED = {"cpu": Shape(1024, 4), "numpy": Shape(256, 1), "cuda": Shape(8192, 8)}


class Prover:
    """Keeps one worker at the work that is wanted. Used from one thread, and the worker dies with
    that thread.
    """

    def __init__(
        self, locks: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._locks = locks
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._work: tuple[Path, str] | None = None
        self._again_at = 0.0
        #: How often in a row the present work has failed.
        self.failures = 0
        #: Why the last worker failed, or "".
        self.trouble = ""

    @property
    def is_running(self) -> bool:
        """Whether a worker is at work."""
        return self._process is not None and self._process.poll() is None

    def wait(self, folder: ProofFolder) -> None:
        """Have a worker ready for proofs of this folder's kind, before there is one to make."""
        self._want(folder, WAIT)

    def prove(self, folder: ProofFolder) -> None:
        """Have rounds done in this folder, by the worker that waits for it if there is one."""
        if not self._hand_over(folder):
            self._want(folder, PROVE)

    def open(self, folder: ProofFolder) -> None:
        """Have the samples opened that this folder asks for."""
        self._want(folder, OPEN)

    def stop(self) -> None:
        """No work is wanted. Rounds that are done stay."""
        self._work = None
        self.failures, self._again_at, self.trouble = 0, 0.0, ""
        self._end()

    def give_way(self) -> None:
        """A job needs the device: no work is wanted but openings, on which a bond depends."""
        if self._work is not None and self._work[1] != OPEN:
            self.stop()

    def leave(self, path: Path) -> None:
        """No work is wanted in this folder."""
        if self._work is not None and self._work[0] == path:
            self.stop()

    def _hand_over(self, folder: ProofFolder) -> bool:
        """Give a proof to the worker that waits; False when none does that is of its kind."""
        if self._work is None or self._work[1] != WAIT or not self.is_running:
            return False
        assert self._process is not None and self._process.stdin is not None  # it runs, and waits
        ready, wanted = ProofFolder(self._work[0]).task(), folder.task()
        if (ready.device, ready.shape) != (wanted.device, wanted.shape):
            return False
        try:
            self._process.stdin.write(f"{folder.path}\n".encode())
            self._process.stdin.flush()
        except OSError:
            return False  # it has just ended
        self._work = (folder.path, PROVE)
        self.failures, self.trouble = 0, ""
        return True

    def _want(self, folder: ProofFolder, mode: str) -> None:
        if self._work != (folder.path, mode):
            self.stop()
            self._work = (folder.path, mode)
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._process = None
            if code != 0:
                self._failed(folder, code)
        if self._clock() >= self._again_at:
            with folder.log.open("ab") as said:
                self._process = _start(folder, mode, self._locks, subprocess.DEVNULL, said.fileno())

    def _failed(self, folder: ProofFolder, code: int) -> None:
        pause = min(_MAX_PAUSE, _PAUSE * 2**self.failures)
        self.failures += 1
        self._again_at = self._clock() + pause
        self.trouble = folder.last_words() or f"the worker ended with {code}"
        log.warning("proof: %s; trying again in %.0f s", self.trouble, pause)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
            self._process = None


def measure(device: str, locks: Path | None = None) -> tuple[str, float | None]:
    """What a device is, in words, and about how many operations per second it proves, None when
    another agent uses it now.

    EngineError when it cannot be used.
    """
    if not Turn(device, locks).is_free():
        return f"{device}, in use by another proof", None
    place = Path(tempfile.mkdtemp(prefix="teraproof-measure-"))
    try:
        folder = ProofFolder(place)
        shape = _MEASURED.get(device.partition(":")[0], _MEASURED["cpu"])
        folder.create(Task(ZERO, shape, device, turn_seconds=_MEASURE_SECONDS))
        process = _start(folder, MEASURE, locks, subprocess.PIPE, subprocess.PIPE)
        try:
            out, errors = process.communicate(timeout=_MEASURE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise EngineError(
                f"{device} gave no answer in {_MEASURE_SECONDS:.0f} s; is it in use?"
            ) from None
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip().splitlines()
            raise EngineError(said[-1] if said else f"the worker ended with {process.returncode}")
        found = json.loads(out)
        return str(found["device"]), float(found["operations_per_second"])
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _start(
    folder: ProofFolder, mode: str, locks: Path | None, out: int, errors: int
) -> subprocess.Popen[bytes]:
    package = Path(provider_agent.__file__).resolve().parent
    arguments = [str(folder.path), mode, str(os.getpid()), *([] if locks is None else [str(locks)])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", worker.__name__, *arguments],
        # The code that the agent runs itself, wherever that lies.
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        stdin=subprocess.PIPE if mode == WAIT else subprocess.DEVNULL,
        stdout=out,
        stderr=errors,
    )
