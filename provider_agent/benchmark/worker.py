# SPDX-License-Identifier: Apache-2.0
"""The process that makes a proof: `python -m provider_agent.benchmark.worker FOLDER MODE PARENT`.

MODE is `prove` (do rounds until killed), `open` (open the samples that are asked for) or `measure`
(how fast is the device). The process dies with the agent that started it (PARENT), at any
instruction and without harm: each root is on the disk when its round is done, and the next worker
goes on from there. The agent's own threads never wait for the arithmetic in here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from provider_agent.benchmark.engine import Engine, make_engine
from provider_agent.benchmark.errors import BenchmarkError
from provider_agent.benchmark.folder import ProofFolder, RootFile
from provider_agent.benchmark.format import MAX_ROUNDS
from provider_agent.benchmark.proof import Proof
from provider_agent.benchmark.turns import Turn
from provider_agent.errors import AgentError
from provider_agent.runners.linux import die_with

PROVE, OPEN, MEASURE = "prove", "open", "measure"
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


def main() -> None:
    """Be a worker. Exits with 1 and one line when something is wrong."""
    path, mode, parent = sys.argv[1:]
    die_with(int(parent))
    folder = ProofFolder(Path(path))
    until = time.monotonic() + _PATIENCE
    try:
        while True:
            with folder.locked() as ours:
                if ours:
                    turn = Turn(folder.task().device)
                    {PROVE: prove, OPEN: open_samples, MEASURE: measure}[mode](folder, turn)
                    return
            if time.monotonic() > until:
                raise BenchmarkError("another worker does not leave the folder")
            time.sleep(0.1)
    except AgentError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("not enough memory for proofs of this size on this device")


if __name__ == "__main__":
    main()
