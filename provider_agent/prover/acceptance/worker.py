# SPDX-License-Identifier: Apache-2.0
"""The process that answers an acceptance challenge for one device.

`python -m provider_agent.prover.acceptance.worker PARENT`, which dies with PARENT at any
instruction, without harm: it keeps nothing on the disk. Lines of JSON come in: first the task,
then a step and its nonce each. Lines of JSON go out: how far a step is, and what it came to.

    {"engine": "cuda:0", "device": 0, "lease": {...}, "work": "..."}
    {"step": "fill", "nonce": "..."}        {"progress": 0.5} ... {"step": "fill", "answer": 1000}

Ends with 1 and one line when something is wrong, and with 0 when the last step is answered or
nothing comes any more.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from provider_agent.prover.acceptance.memories import open_memory
from provider_agent.prover.acceptance.memory import Memory
from provider_agent.prover.acceptance.respondent import Respondent
from provider_agent.prover.engine import Engine, make_engine
from provider_agent.runners.linux import die_with
from teraproof.acceptance.format import Lease
from teraproof.acceptance.messages import Step, hex32, work_from_json
from teraproof.errors import LocalError

_REPORT_SECONDS = 0.5  # between two reports of progress


def lease_to_json(lease: Lease) -> dict[str, Any]:
    """A lease as the worker reads it."""
    return {
        "chain_id": lease.chain_id,
        "contract": lease.contract,
        "provider": lease.provider,
        "id": lease.id.hex(),
    }


def respond(
    orders: Iterable[str],
    say: Callable[[dict[str, Any]], None],
    *,
    engines: Callable[[str], Engine] = make_engine,
    memories: Callable[[Engine, str], Memory] = open_memory,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Answer the steps that `orders` name, line by line. See the module."""
    lines = iter(orders)
    task = json.loads(next(lines))
    found, engine = task["lease"], str(task["engine"])
    lease = Lease(found["chain_id"], found["contract"], found["provider"], hex32(found["id"]))
    work, device = work_from_json(task["work"]), engines(engine)
    said = clock()

    def progress(part: float) -> None:
        nonlocal said
        if clock() - said >= _REPORT_SECONDS:
            said = clock()
            say({"progress": part})

    with closing(
        Respondent(
            lease, work, int(task["device"]), device, lambda: memories(device, engine), progress
        )
    ) as respondent:
        for line in lines:
            order = json.loads(line)
            step, nonce = Step(order["step"]), hex32(order["nonce"])
            say({"step": step, "answer": _answer(respondent, step, nonce)})
            if step is Step.OPEN:
                return


def _answer(respondent: Respondent, step: Step, nonce: bytes) -> object:
    if step is Step.FILL:
        return respondent.fill(nonce)
    if step is Step.WORK:
        return respondent.work(nonce).hex()
    if step is Step.SWEEP:
        return [root.hex() for root in respondent.sweep(nonce)]
    return respondent.open(nonce).to_json()


def main() -> None:
    """Be a worker."""
    die_with(int(sys.argv[1]))

    def say(line: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    try:
        respond(sys.stdin, say)
    except LocalError as error:
        sys.exit(str(error))
    except MemoryError:
        sys.exit("not enough memory for a challenge of this size on this device")


if __name__ == "__main__":
    main()
