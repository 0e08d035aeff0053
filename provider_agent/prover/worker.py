# SPDX-License-Identifier: Apache-2.0
"""The process that makes a proof.

`python -m provider_agent.prover.worker FOLDER MODE PARENT [LOCKS]`, the last as in `Turn`.

MODE is `prove` (do rounds until killed), `open` (open the samples that are asked for), `measure`
(how fast is the device) or `wait`: make the device ready, do a round that is of no use, and prove
in the folder whose path comes on the standard input. Windows come unannounced; what loads libraries
and takes memory is done before. The process dies with the agent that started it (PARENT), at any
instruction and without harm: each root is on the disk when its round is done, and the next worker
goes on from there. The agent's own threads never wait for the arithmetic in here.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from provider_agent.prover.engine import Engine, make_engine
from provider_agent.prover.folder import ProofFolder, RootFile
from provider_agent.prover.proof import Proof
from provider_agent.prover.turns import Turn
from provider_agent.runners.linux import die_with
from teraproof.errors import LocalError
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import MAX_ROUNDS

PROVE, OPEN, MEASURE, WAIT = "prove", "open", "measure", "wait"
_PATIENCE = 10.0  # seconds for the worker before us to be gone
_MEASURED_ROUNDS = 3

Engines = Callable[[str], Engine]


def prove(
    folder: ProofFolder,
    turn: Turn,
    *,
    rounds: int = MAX_ROUNDS,
    engines: Engines = make_engine,
    clock: Callable[[], float] = time.monotonic,
    over: Callable[[], bool] = lambda: False,
) -> None:
    """Do rounds until there are `rounds` of them or it is `over`, with pauses for those who wait
    for the device.
    """
    with folder.appending() as file:
        while len(file.roots) < rounds and not over():
            with turn:
                if over():  # while it waited for its turn
                    return
                with closing(engines(folder.task().device)) as engine:
                    _take_turn(folder, turn, engine, file, rounds, clock, over)


def _take_turn(
    folder: ProofFolder,
    turn: Turn,
    engine: Engine,
    file: RootFile,
    rounds: int,
    clock: Callable[[], float],
    over: Callable[[], bool],
) -> None:
    task, began = folder.task(), clock()
    engine.prepare(task.challenge, task.shape)
    coming = engine.roots(tuple(file.roots))
    try:
        for root in coming:
            file.append(root)
            if len(file.roots) >= rounds or over():
                return
            if clock() - began >= task.turn_seconds and turn.wanted():
                return
    finally:
        # The engine stops its work on the next round before somebody else has the device.
        close = getattr(coming, "close", None)
        if close is not None:
            close()


def open_samples(folder: ProofFolder, turn: Turn, *, engines: Engines = make_engine) -> None:
    """Open the samples that are asked for; rounds that are missing on the disk are done first."""
    request, task = folder.requested(), folder.task()
    if request is None:
        raise BenchmarkError("there is no request for openings")
    prove(folder, turn, rounds=request.rounds, engines=engines)
    proof = Proof(task.challenge, task.shape, tuple(folder.roots()[: request.rounds]))
    with turn, closing(engines(task.device)) as engine:
        folder.keep_openings(request, proof.openings(engine, request.draw, request.count))


def wait(
    folder: ProofFolder,
    turn: Turn,
    *,
    engines: Engines = make_engine,
    orders: Callable[[], str] = lambda: sys.stdin.readline(),
) -> None:
    """Be ready for a proof of the folder's shape on its device, and make the one that is ordered:
    a line with the path of its folder. No line, no proof.
    """
    task = folder.task()
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(closing(engines(task.device)))
        if turn.is_free():  # who proves now is not disturbed
            with turn:
                engine.prepare(task.challenge, task.shape)
                coming = engine.roots(())
                next(coming)
                close = getattr(coming, "close", None)
                if close is not None:
                    close()
        ordered = ProofFolder(Path(orders().rstrip("\n")))
        if ordered.path == Path():
            return
        ready = [engine]
        stack.pop_all()  # the first turn closes it

        def first_ready(device: str) -> Engine:
            return ready.pop() if ready and device == task.device else engines(device)

        with ordered.log.open("ab") as said:
            os.dup2(said.fileno(), 2)
        with _alone(ordered):
            prove(ordered, turn, engines=first_ready)


def measure(folder: ProofFolder, turn: Turn, *, engines: Engines = make_engine) -> None:
    """Print a JSON object: the `device` in words, and its `operations_per_second` in rounds of the
    task's shape.
    """
    task = folder.task()
    with turn, closing(engines(task.device)) as engine:
        engine.prepare(task.challenge, task.shape)
        coming = engine.roots(())
        next(coming)  # what the first round has to load, the others need not
        began = time.monotonic()
        for _ in range(_MEASURED_ROUNDS):
            next(coming)
        rate = task.shape.operations * _MEASURED_ROUNDS / (time.monotonic() - began)
        sys.stdout.write(json.dumps({"device": engine.device, "operations_per_second": rate}))


@contextlib.contextmanager
def _alone(folder: ProofFolder) -> Iterator[None]:
    """Be the only worker in the folder, once the one before us is gone."""
    until = time.monotonic() + _PATIENCE
    while True:
        with folder.locked() as ours:
            if ours:
                yield
                return
        if time.monotonic() > until:
            raise BenchmarkError("another worker does not leave the folder")
        time.sleep(0.1)


def main() -> None:
    """Be a worker. Exits with 1 and one line when something is wrong."""
    path, mode, parent, *locks = sys.argv[1:]
    die_with(int(parent))
    folder = ProofFolder(Path(path))
    work = {PROVE: prove, OPEN: open_samples, MEASURE: measure, WAIT: wait}[mode]
    try:
        with _alone(folder):
            work(folder, Turn(folder.task().device, *map(Path, locks)))
    except LocalError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("not enough memory for proofs of this size on this device")


if __name__ == "__main__":
    main()
