# SPDX-License-Identifier: Apache-2.0
"""Starts provider agents that kill themselves at a chosen instruction. Run by `nursery.py`.

A point is `<what>.<state>.<before|after>`: "accept.signed.before" is the last instruction before
the change of the acceptance's intent to SIGNED is committed, "...after" the first one behind it.
Nothing of the agent is replaced: its own functions are called, and the process ends with SIGKILL
before or after them.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provider_agent.cli import main as cli
from provider_agent.modules.disputes.bench import Bench
from provider_agent.modules.disputes.votes import VoteBook
from provider_agent.modules.inference.claim_book import CONTRACT as CHANNELS
from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.jobs.attestations import Attestations
from provider_agent.modules.jobs.duty import JobsDuty
from provider_agent.modules.jobs.repository import JobsRepository
from provider_agent.modules.jobs.results import Results
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.duty import LeasesDuty
from provider_agent.modules.leases.repository import LeasesRepository
from provider_agent.modules.proofs.prover import Prover
from provider_agent.prover.folder import ProofFolder
from provider_agent.runners.docker.containers import Containers
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.process import ProcessRunner
from provider_agent.store import Store
from provider_agent.tx.sender import Sender

# What an agent loads by itself: its own modules, and others when it is under way already.
_LATER = (
    "provider_agent.app",
    "anyio._backends._asyncio",
    "eth_hash.backends.pycryptodome",
    "httpcore",
    "stringprep",
    "uvicorn.lifespan.off",
    "uvicorn.loops.asyncio",
)


#: What each runner of leases does, and what its points are called.
RUNNER = {step: step for step in ("resolve", "fetch", "prepare", "start")}
DOCKER: tuple[tuple[type, Mapping[str, str]], ...] = (
    (DockerRunner, {**RUNNER, "_remove": "remove"}),
    (Containers, {"_make": "make", "start": "begin"}),
)


#: What is written into the channel book.
BOOK = ("ask_deposit", "set_deposit", "begin", "end", "ask_refund", "set_refund", "see")
#: What is written about batches of claims.
BATCHES = ("add", "forget")


class Reaper:
    """Decides at each point whether the process dies there."""

    def __init__(self, die_at: str, diary: str) -> None:
        self._die_at = die_at
        self._diary = Path(diary) if diary else None
        self._known = set()
        if self._diary is not None and self._diary.exists():
            self._known = set(self._diary.read_text().split())

    def pass_by(self, point: str) -> None:
        """Die here, or go on."""
        new = point not in self._known
        if new and self._diary is not None:
            self._known.add(point)
            with self._diary.open("a") as diary:
                diary.write(point + "\n")
        if point == self._die_at or (self._die_at == "each" and new):
            os.kill(os.getpid(), signal.SIGKILL)


def install(reaper: Reaper, *containers: tuple[type, Mapping[str, str]]) -> None:
    """Put a point before and after each step of a job, and of a lease in `containers`."""

    def wrap(
        owner: type, function: str, name: Callable[..., str], *, commits: bool = False
    ) -> None:
        original = getattr(owner, function)

        def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
            point = name(self, *arguments)
            if not point:
                return original(self, *arguments, **named)
            if commits:
                # Written, and the process dies before the database has committed it.
                with self.transaction():
                    result = original(self, *arguments, **named)
                    reaper.pass_by(f"{point}.before")
            else:
                reaper.pass_by(f"{point}.before")
                result = original(self, *arguments, **named)
            reaper.pass_by(f"{point}.after")
            return result

        setattr(owner, function, wrapped)

    def action(key: Any) -> str:
        # A claim is named after its epoch, other actions have the same name in each.
        name = str(key.action).partition("#")[0].partition("-")[0]
        if key.contract == CHANNELS:
            return f"channel_{name}"
        if key.contract == "leases":
            return name
        return "claim" if key.contract == "rewards" else str(key.action)

    def intent_state(store: Store, intent_id: int, state: Any, *_: Any) -> str:
        return f"{action(store.intent_by_id(intent_id).key)}.{state.value}"

    def new_intent(store: Store, key: Any, *_: Any) -> str:
        return "" if store.intent(key) else f"{action(key)}.planned"

    wrap(Store, "add_intent", new_intent, commits=True)
    wrap(Store, "set_intent_state", intent_state, commits=True)
    wrap(JobsRepository, "add_run", lambda *_: "run.planned", commits=True)
    wrap(JobsRepository, "set_run_state", lambda _, run, state: f"run.{state.value}", commits=True)
    wrap(Sender, "_broadcast", lambda _, intent, made: f"{action(intent.key)}.broadcast")
    wrap(ProcessRunner, "start", lambda *_: "runner.start")
    wrap(ProcessRunner, "_launch", lambda *_: "runner.launch")
    wrap(ProcessRunner, "remove", lambda *_: "runner.remove")
    wrap(Results, "keep", lambda *_: "result.keep")
    wrap(Attestations, "_write", lambda *_: "statement.kept")
    wrap(JobsDuty, "consume", lambda _, events, again: "events.consume" if events else "")
    wrap(JobsRepository, "put_spec", lambda *_: "spec.stored", commits=True)
    wrap(LeasesRepository, "add", lambda *_: "lease.kept", commits=True)
    wrap(LeasesRepository, "put_spec", lambda *_: "lease_spec.stored", commits=True)
    wrap(LeasesRepository, "end", lambda *_: "lease.ended", commits=True)
    wrap(LeasesDuty, "consume", lambda _, events, again: "lease_events.consume" if events else "")
    for owner, functions in (*DOCKER, *containers):
        for function, point in functions.items():
            wrap(owner, function, lambda *_, point=point: f"containers.{point}")
    for written in BOOK:
        wrap(ChannelBook, written, lambda *_, point=written: f"book.{point}", commits=True)
    for written in BATCHES:
        wrap(ClaimBook, written, lambda *_, point=written: f"batch.{point}", commits=True)
    wrap(VoteBook, "keep", lambda book, *vote: "" if book.of(*vote[:2]) else "vote.kept")
    wrap(Bench, "_keep_own", lambda *_: "juror.own")
    wrap(Bench, "_keep", lambda *_: "juror.finding")
    wrap(ProofFolder, "create", lambda *_: "proof.folder")
    wrap(ProofFolder, "request", lambda *_: "proof.request")
    wrap(Prover, "wait", lambda *_: "prover.wait")
    wrap(Prover, "prove", lambda *_: "prover.prove")
    wrap(Prover, "open", lambda *_: "prover.open")


def played(place: str) -> list[tuple[type, Mapping[str, str]]]:
    """Have leases run as that file has it, and not in Docker; its class for containers."""
    if not place:
        return []
    said = importlib.util.spec_from_file_location("played", place)
    assert said is not None and said.loader is not None
    module = importlib.util.module_from_spec(said)
    said.loader.exec_module(module)

    def make(settings: Any, operator: str) -> Any:
        return module.make(settings.agent.data_dir / "containers", operator.lower())

    engine.make_lease_runner = make
    return [(module.Processes, {**RUNNER, "remove": "remove", "_begin": "begin"})]


def live(order: dict[str, Any]) -> None:
    """Be an agent. Never returns."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    install(Reaper(order["die_at"], order["diary"]), *played(order["containers"]))
    code = 1
    try:
        cli.main(order["arguments"], prog_name="provider-agent")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Fork an agent for each order; `poll` asks what became of one."""
    for name in _LATER:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = None if pid == 0 else os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                live(order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
