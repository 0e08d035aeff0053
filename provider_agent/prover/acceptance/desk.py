# SPDX-License-Identifier: Apache-2.0
"""Acceptance challenges under way, as the agent sees them: a worker process for each device.

One challenge of a lease runs at a time, with a pause between two. A step that was asked for is not
done twice: whoever asks again with the same nonce gets the same answer. A worker that takes longer
than its step may, or waits too long for the next one, is killed; so is one whose challenge is
replaced. Nothing waits for its end, which a driver may hold up: until it is gone, its lease alone
is not challenged. If the agent dies, its workers die too, and the tenant challenges again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import provider_agent
from provider_agent.prover.acceptance import worker
from teraproof.acceptance.format import BLOCK_BYTES, Lease, Work
from teraproof.acceptance.messages import Step, work_to_json
from teraproof.errors import Refused
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_STEPS = tuple(Step)
_NAMES = {
    Step.FILL: "filled",
    Step.WORK: "commitments",
    Step.SWEEP: "sweeps",
    Step.OPEN: "openings",
}
#: Seconds that a worker waits for the tenant's next step.
_IDLE = 60.0
#: Seconds that closing waits for workers that were killed.
_LEAVE = 5.0


@dataclass(frozen=True)
class DeskLimits:
    """What challenges may cost a provider."""

    pause: float = 30.0
    """Seconds between the beginnings of two challenges of one lease."""
    operations: int = 10**17
    """Of the rounds of one challenge, on each device: a minute of an H100."""
    swept_bytes: int = 1 << 44
    """Read in all sweeps of one challenge together, on each device: five seconds of an H100."""
    challenges: int = 64
    """Of all leases, at once."""


@dataclass(frozen=True)
class Place:
    """A lease as the agent runs it: who rents it, its devices by the names of engines, and the
    bytes of memory that the lease has on each of them, which no challenge passes.
    """

    lease: Lease
    tenant: str
    engines: tuple[str, ...]
    memory: int
    command: tuple[str, ...] = (sys.executable, "-P", "-m", worker.__name__)
    """What starts a worker; the number of its parent comes last. Another machine has its own."""


class _Worker:
    """A process, and the thread that starts it and reads it: the process dies with the thread."""

    def __init__(
        self,
        task: dict[str, Any],
        hear: Callable[[dict[str, Any]], None],
        command: tuple[str, ...],
    ) -> None:
        self.trouble = ""
        self._hear, self._command = hear, command
        self._lock = threading.Lock()
        self._waiting = [task]
        self._process: subprocess.Popen[str] | None = None
        self._killed = False
        self._thread = threading.Thread(target=self._run, name="challenge", daemon=True)
        self._thread.start()

    def order(self, line: dict[str, Any]) -> None:
        """Hand a line over, now or when it has started; one that is gone says so by its end."""
        with self._lock:
            self._waiting.append(line)
            if self._process is not None:
                self._hand_over(self._process)

    def kill(self) -> None:
        """End it, whatever it does, and what it has started. Does not wait."""
        self._killed = True
        if self._process is not None and not self.is_gone():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def is_gone(self) -> bool:
        """Whether its process has ended: until then it may hold the device."""
        process = self._process
        return not self._thread.is_alive() or (process is not None and process.poll() is not None)

    def leave(self, until: float) -> None:
        """Wait for its end, until a time (monotonic)."""
        self._thread.join(max(0.0, until - time.monotonic()))

    def _hand_over(self, process: subprocess.Popen[str]) -> None:
        lines, self._waiting = self._waiting, []
        assert process.stdin is not None  # a pipe
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
            process.stdin.flush()

    def _run(self) -> None:
        package = Path(provider_agent.__file__).resolve().parent
        try:
            process = subprocess.Popen(
                [*self._command, str(os.getpid())],
                env={**os.environ, "PYTHONPATH": str(package.parent)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        except OSError as error:
            self.trouble = str(error)
            self._hear({"ended": True})
            return
        with self._lock:
            self._process = process
            self._hand_over(process)
        if self._killed:
            self.kill()
        assert process.stdin is not None and process.stdout is not None
        assert process.stderr is not None  # all three are pipes
        # What it says at its end is one line; a library that says a page must not hold it up.
        said: list[str] = []
        errors = process.stderr
        reader = threading.Thread(target=lambda: said.extend(errors), daemon=True)
        reader.start()
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                self._hear(json.loads(line))
        process.wait()
        reader.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        self.trouble = next((text.strip() for text in reversed(said) if text.strip()), "")
        self._hear({"ended": True})


@dataclass
class _Asked:
    """A step that was asked for."""

    step: Step
    nonce: bytes
    until: float
    future: Future[dict[str, Any]] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # A request that is broken off cancels nothing.
        self.future.set_running_or_notify_cancel()


class Examination:
    """One challenge of one lease. Safe to use from any thread."""

    def __init__(self, place: Place, work: Work, clock: Callable[[], float] = time.monotonic):
        self.work = work
        self.began = clock()
        self._clock = clock
        self._lock = threading.RLock()
        self._asked: _Asked | None = None
        self._over = False
        self._idle_until = self.began + _IDLE
        self._answers: list[object | None] = [None] * work.devices
        self._parts = [0.0] * work.devices
        self._workers: list[_Worker] = []
        lease, text = worker.lease_to_json(place.lease), work_to_json(work)
        for device, engine in enumerate(place.engines):
            task = {"engine": engine, "device": device, "lease": lease, "work": text}
            self._workers.append(_Worker(task, self._listener(device), place.command))

    def ask(self, step: Step, nonce: bytes) -> Future[dict[str, Any]]:
        """The future answer to a step. Refused for one that is not the next, and not the last."""
        with self._lock:
            asked = self._asked
            if asked is not None and (asked.step, asked.nonce) == (step, nonce):
                return asked.future
            due = _STEPS[0] if asked is None else _after(asked)
            if step is not due or self._over:
                raise Refused(
                    Code.CHALLENGE_UNKNOWN,
                    "no challenge of this lease waits for this step; begin with a new one",
                )
            self._answers = [None] * self.work.devices
            self._parts = [0.0] * self.work.devices
            self._asked = _Asked(step, nonce, self._clock() + self.work.seconds)
            future = self._asked.future
        for one in self._workers:
            one.order({"step": step, "nonce": nonce.hex()})
        return future

    def progress(self) -> tuple[Step | None, bool, float]:
        """The step that was asked for last, whether it is done, and the part that is."""
        with self._lock:
            if self._asked is None:
                return None, False, 0.0
            done = self._asked.future.done()
            return self._asked.step, done, 1.0 if done else min(self._parts)

    def is_over(self) -> bool:
        """Whether it has ended. One that is late is ended here."""
        with self._lock:
            now, asked = self._clock(), self._asked
            if asked is not None and not asked.future.done():
                late = now > asked.until
            else:
                late = now > self._idle_until
            over = self._over
        if late and not over:
            self.end("the device was too slow, or the tenant did not go on")
        return over or late

    def is_gone(self) -> bool:
        """Whether its processes have ended, and the devices are free."""
        return all(one.is_gone() for one in self._workers)

    def is_forgotten(self) -> bool:
        """Whether it is gone, and nobody will ask for a lost answer any more."""
        return self.is_over() and self.is_gone() and self._clock() > self._idle_until

    def end(self, why: str = "the challenge was given up") -> None:
        """Have its processes end, without waiting; a step that is not answered fails."""
        with self._lock:
            self._over = True
        for one in self._workers:
            one.kill()
        self._fail(why)

    def leave(self, until: float) -> None:
        """Wait for the end of its processes, until a time (monotonic)."""
        for one in self._workers:
            one.leave(until)

    def _listener(self, device: int) -> Callable[[dict[str, Any]], None]:
        return lambda line: self._heard(device, line)

    def _heard(self, device: int, line: dict[str, Any]) -> None:
        if "ended" in line:
            with self._lock:
                self._over = True
            trouble = self._workers[device].trouble if device < len(self._workers) else ""
            self._fail(trouble or "its process ended")
            return
        with self._lock:
            asked = self._asked
            if asked is None:
                return
            if "progress" in line:
                self._parts[device] = float(line["progress"])
            elif line.get("step") == asked.step:
                self._answers[device] = line["answer"]
                self._parts[device] = 1.0
                if None not in self._answers and not asked.future.done():
                    self._idle_until = self._clock() + _IDLE
                    self._over = self._over or asked.step is _STEPS[-1]
                    asked.future.set_result({_NAMES[asked.step]: list(self._answers)})

    def _fail(self, why: str) -> None:
        with self._lock:
            asked = self._asked
            if asked is None or asked.future.done():
                return
            log.warning("challenge: %s", why)
            # What a device says is the owner's: the tenant needs to know that it failed.
            asked.future.set_exception(
                Refused(Code.CHALLENGE_FAILED, "the devices of the lease did not answer")
            )


def _after(asked: _Asked) -> Step | None:
    """The step that may follow: none while one is under way, or after the last."""
    number = _STEPS.index(asked.step) + 1
    return _STEPS[number] if asked.future.done() and number < len(_STEPS) else None


class Desk:
    """The challenges of all leases. Safe to use from any thread."""

    def __init__(
        self,
        limits: DeskLimits = DeskLimits(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._running: dict[bytes, Examination] = {}
        #: Of leases that are over, while their processes end.
        self._ending: list[Examination] = []
        self._begun: dict[bytes, float] = {}

    def begin(self, place: Place, work: Work, nonce: bytes) -> Future[dict[str, Any]]:
        """Begin a challenge; the future answer to its first step. Refused says why not."""
        self._check(place, work)
        with self._lock:
            known = self._current(place.lease.id)
            if known is not None:
                with contextlib.suppress(Refused):
                    return known.ask(Step.FILL, nonce)
                raise _busy("a challenge of this lease is under way", 1)
            wait = self._begun.get(place.lease.id, -self._limits.pause) + self._limits.pause
            if self._clock() < wait:
                raise _busy("this lease was challenged lately", wait - self._clock())
            last = self._running.get(place.lease.id)
            if last is not None and not last.is_gone():
                raise _busy("the devices of this lease are not free of its last challenge yet", 1)
            under_way = [
                one
                for one in (*self._running.values(), *self._ending)
                if not one.is_over() or not one.is_gone()
            ]
            if len(under_way) >= self._limits.challenges:
                raise _busy("too many challenges at once", 1)
            examination = Examination(place, work, self._clock)
            self._running[place.lease.id] = examination
            self._begun[place.lease.id] = self._clock()
        return examination.ask(Step.FILL, nonce)

    def go_on(self, lease: bytes, step: Step, nonce: bytes) -> Future[dict[str, Any]]:
        """The future answer to a later step. Refused where no challenge waits for it."""
        with self._lock:
            known = self._running.get(lease)
        if known is None:
            raise Refused(
                Code.CHALLENGE_UNKNOWN,
                "no challenge of this lease is under way; begin with a new one",
            )
        return known.ask(step, nonce)

    def progress(self, lease: bytes) -> tuple[Step | None, bool, float]:
        """How far the challenge of a lease is; no step where there is none."""
        with self._lock:
            known = self._running.get(lease)
        return (None, False, 0.0) if known is None else known.progress()

    def tick(self) -> None:
        """End what is late, and forget what has ended: to be called every few seconds."""
        with self._lock:
            for lease, known in list(self._running.items()):
                if known.is_forgotten():
                    del self._running[lease]
                elif known.is_over():
                    known.end()
            self._ending = [known for known in self._ending if not known.is_gone()]
            oldest = self._clock() - self._limits.pause
            self._begun = {one: at for one, at in self._begun.items() if at > oldest}

    def leave(self, lease: bytes) -> None:
        """The lease is over: so is its challenge."""
        with self._lock:
            known = self._running.pop(lease, None)
            if known is not None:
                self._ending.append(known)
        if known is not None:
            known.end()

    def close(self) -> None:
        """End all of them, and wait a little for it."""
        with self._lock:
            running, self._running = [*self._running.values(), *self._ending], {}
        for one in running:
            one.end()
        until = time.monotonic() + _LEAVE
        for one in running:
            one.leave(until)

    def _current(self, lease: bytes) -> Examination | None:
        """The challenge of a lease that goes on."""
        known = self._running.get(lease)
        if known is not None and known.is_over():
            known.end()
            return None
        return known

    def _check(self, place: Place, work: Work) -> None:
        """Refused for work that does not fit the lease or passes a limit."""
        if work.devices != len(place.engines):
            raise Refused(
                Code.LIMIT_EXCEEDED,
                f"the lease has {len(place.engines)} devices, not {work.devices}",
                field="devices",
                limit=len(place.engines),
            )
        _bound("rounds", work.rounds, self._limits.operations // work.shape.operations)
        _bound("blocks", work.blocks, place.memory // BLOCK_BYTES)
        if work.blocks:
            size = work.blocks * BLOCK_BYTES
            _bound("sweeps", work.sweeps, max(1, self._limits.swept_bytes // size))


def _bound(name: str, value: int, limit: int) -> None:
    if value > limit:
        raise Refused(
            Code.LIMIT_EXCEEDED,
            f"{name} {value} is above this provider's limit of {limit}",
            field=name,
            limit=limit,
        )


def _busy(line: str, pause: float) -> Refused:
    seconds = max(1, -int(-pause // 1))
    return Refused(Code.CHALLENGE_BUSY, f"{line}; wait", retry_after=seconds)
