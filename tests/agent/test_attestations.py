# SPDX-License-Identifier: Apache-2.0
"""Never two results for one job, wherever the agent dies and whatever it loses."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.errors import RunnerError
from provider_agent.modules.jobs import attestations as attestations_module
from provider_agent.modules.jobs import results as results_module
from provider_agent.modules.jobs.attestations import Attestations, SaidOtherwise
from provider_agent.modules.jobs.repository import JobsRepository, RunStage
from provider_agent.store import IntentState
from teraproof.contracts.jobs import Posted
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import Terms
from tests.agent.duty_parts import TENANT
from tests.agent.duty_rig import Rig, assigned

JOB = b"\x05" * 32
ONE = Attestation(JOB, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, 10, 20)


class Killed(BaseException):
    """The process ends here."""


# ------------------------------------------------------------------------ the file


def test_keep__first_statement__found_by_the_next_process(tmp_path: Path) -> None:
    assert Attestations(tmp_path).of(JOB) is None
    assert Attestations(tmp_path).keep(ONE, b'{"a":1}') == ONE
    said = Attestations(tmp_path).of(JOB)
    assert said is not None and (said.statement, said.receipt) == (ONE, b'{"a":1}')


@pytest.mark.parametrize("part", ["spec", "result", "receipt"])
def test_keep__another_statement__refused_and_the_first_stays(tmp_path: Path, part: str) -> None:
    kept = Attestations(tmp_path)
    kept.keep(ONE, b"")
    with pytest.raises(SaidOtherwise) as caught:
        other: dict[str, Any] = {part: b"\x09" * 32}
        kept.keep(replace(ONE, **other), b"")
    assert caught.value.code is Code.SIGNED_OTHERWISE and not caught.value.retryable
    said = kept.of(JOB)
    assert said is not None and said.statement == ONE


def test_keep__same_result_at_other_times__what_was_said_first(tmp_path: Path) -> None:
    kept = Attestations(tmp_path)
    kept.keep(ONE, b"")
    assert kept.keep(replace(ONE, started=11, finished=30), b"") == ONE


def test_keep__other_jobs__are_no_matter(tmp_path: Path) -> None:
    kept = Attestations(tmp_path)
    other = replace(ONE, job=b"\x06" * 32, result=b"\x09" * 32)
    assert (kept.keep(ONE, b""), kept.keep(other, b"")) == (ONE, other)
    kept.drop(JOB)
    kept.drop(JOB)
    assert kept.of(JOB) is None and kept.of(other.job) is not None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 2}', b"\xff" * 100])
def test_keep__record_is_damaged__nothing_is_said(tmp_path: Path, damage: bytes) -> None:
    kept = Attestations(tmp_path)
    kept.keep(ONE, b"")
    (tmp_path / JOB.hex()).write_bytes(damage)
    with pytest.raises(RunnerError, match="is damaged"):
        kept.keep(ONE, b"")


def test_keep__record_of_another_job_under_its_name__nothing_is_said(tmp_path: Path) -> None:
    kept = Attestations(tmp_path)
    kept.keep(ONE, b"")
    (tmp_path / JOB.hex()).rename(tmp_path / (b"\x06" * 32).hex())
    with pytest.raises(RunnerError, match="is damaged"):
        kept.of(b"\x06" * 32)


def test_keep__disk_is_full__nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(RunnerError, match="No space left"):
        Attestations(tmp_path).keep(ONE, b"")
    assert list(tmp_path.iterdir()) == []


def test_keep__killed_at_any_step__whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [
        (os, "fsync"),
        (os, "link"),
        (attestations_module, "sync_directory"),
    ]
    for number, after in [(n, late) for n in range(len(calls)) for late in (False, True)]:
        root, (where, name) = tmp_path / f"{number}-{after}", calls[number]
        real = getattr(where, name)

        def die(*arguments: Any, real: Any = real, after: bool = after) -> None:
            if after:
                real(*arguments)
            raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(where, name, die)
            Attestations(root).keep(ONE, b"")
        said = Attestations(root).of(JOB)
        assert said is None or said.statement == ONE
        other = replace(ONE, result=b"\x09" * 32)
        if said is None:
            assert Attestations(root).keep(other, b"") == other


def test_keep__many_at_once__one_is_first(tmp_path: Path) -> None:
    kept, said = Attestations(tmp_path), list[bytes]()

    def say(number: int) -> None:
        with suppress(SaidOtherwise):
            said.append(kept.keep(replace(ONE, result=bytes([number]) * 32), b"").result)

    threads = [threading.Thread(target=say, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


# ------------------------------------------------------------------------ an agent that dies


def spoken(rig: Rig, terms: Terms) -> set[bytes]:
    """The results that anybody outside has a word of ours for, or will: signatures and calls."""
    found = set()
    shown = rig.status(terms)["attestation"]
    if shown is not None:
        said = messages.Attestation(
            terms.job_id(),
            terms.order.spec,
            bytes.fromhex(shown["result"][2:]),
            bytes.fromhex(shown["receipt"][2:]),
            shown["started"],
            shown["finished"],
        )
        signature = bytes.fromhex(shown["signature"][2:])
        domain = messages.Domain(31337, rig.settings.chain.jobs or "")
        assert messages.recover(domain, said, signature)
        found.add(said.result)
    for intent in rig.store.intents_of(terms.job_id().hex()):
        if intent.key.action == "attest":
            found.add(intent.data[len(b"attest") :][:32])
    return found


def begun(folder: Path) -> Rig:
    folder.mkdir(exist_ok=True)
    return Rig(folder)


def again(rig: Rig, terms: Terms, *lost: str) -> Rig:
    """A new process on this machine, without what was lost; its runs are gone with a reboot."""
    rig.duty.close()
    rig.store.close()
    for name in ("runs", *lost):
        for path in rig.folder.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    made = Rig(rig.folder)
    made.chain.words = rig.chain.words
    made.block, made.now = rig.block, rig.now
    made.chain.blocks[made.block.number] = made.block
    made.duty.consume([Posted(made.entry(), terms.job_id(), TENANT, terms)], [])
    for path in (rig.folder / "specs").iterdir():
        made.records.put_spec(bytes.fromhex(path.name), path.read_bytes(), TENANT)
    return made


def run_on(rig: Rig, terms: Terms, content: str) -> None:
    """Whatever runs for the job ends with another output than the last time."""
    for _ in range(12):
        rig.next_block(30)
        rig.cycle()
        for run in rig.records.runs_of(terms.job_id()):
            if run.state is RunStage.RUNNING and run.run_id in rig.runner.states:
                rig.runner.end(run.run_id)
                answer = rig.runner.root / run.run_id / "outputs" / "answer"
                answer.write_text(content)


POINTS: list[tuple[Any, str]] = [
    (results_module, "sync_tree"),
    (results_module, "sync"),
    (attestations_module, "sync_directory"),
    (JobsRepository, "set_run_state"),
    (messages, "sign"),
]


class Killer:
    """Ends the process at its n-th step, before or after it."""

    def __init__(self, patched: pytest.MonkeyPatch, number: int, after: bool) -> None:
        self.number, self.after, self.steps, self.armed = number, after, 0, True
        for where, name in POINTS:
            patched.setattr(where, name, self.step(getattr(where, name)))

    def step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.steps += self.armed
            dies = self.armed and self.steps == self.number
            if dies and not self.after:
                raise Killed
            done = real(*arguments, **options)
            if dies:
                raise Killed
            return done

        return stepping


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "lost",
    [
        (),
        ("agent.sqlite*",),
        ("agent.sqlite*", "results"),
        ("results",),
        ("agent.sqlite*", "results-signed"),
    ],
    ids=lambda names: "+".join(names) or "nothing",
)
def test_killed_at_any_step__never_two_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...], after: bool
) -> None:
    """The job gives other bytes each time. What is lost with the database is found on the disk;
    what was said is kept apart from the result.
    """
    kept_said = "results-signed" not in lost
    for number in range(1, 30):
        rig = begun(tmp_path / str(number))
        terms = assigned(rig)
        rig.cycle(2)
        (run,) = rig.records.runs_in(RunStage.RUNNING)
        rig.runner.end(run.run_id)
        said = set[bytes]()
        with monkeypatch.context() as patched:
            killer = Killer(patched, number, after)
            with suppress(Killed):
                rig.cycle(3)
                said |= spoken(rig, terms)
            killer.armed = False
            said |= spoken(rig, terms)
        has_result = rig.machine.results.get(terms.job_id()) is not None
        found = again(rig, terms, *lost)
        run_on(found, terms, f"another answer {number}")
        said |= spoken(found, terms)
        assert len(said) <= 1, (number, said)
        if "results" not in lost and (kept_said or has_result):
            assert len(said) == 1, "the job is delivered"
        found.duty.close()
        if killer.steps < number:
            assert number > len(POINTS), "it died at steps of each kind"
            return
    raise AssertionError("there are more steps")


def test_result_lost_after_it_was_signed_for__same_bytes_again__delivered_with_that_receipt(
    tmp_path: Path,
) -> None:
    rig = begun(tmp_path)
    terms = assigned(rig)
    rig.cycle(2)
    (run,) = rig.records.runs_in(RunStage.RUNNING)
    rig.runner.end(run.run_id)
    rig.cycle(2)
    (first,) = spoken(rig, terms)
    kept = rig.machine.results.get(terms.job_id())
    assert kept is not None
    found = again(rig, terms, "agent.sqlite*", "results")
    run_on(found, terms, "42")
    now = found.machine.results.get(terms.job_id())
    assert now is not None and now.receipt == kept.receipt
    assert spoken(found, terms) == {first}


def test_result_lost_after_it_was_signed_for__other_bytes__nothing_more_is_said(
    tmp_path: Path,
) -> None:
    rig = begun(tmp_path)
    terms = assigned(rig)
    rig.cycle(2)
    (run,) = rig.records.runs_in(RunStage.RUNNING)
    rig.runner.end(run.run_id)
    rig.cycle(2)
    assert len(spoken(rig, terms)) == 1
    found = again(rig, terms, "agent.sqlite*", "results")
    run_on(found, terms, "43")
    assert spoken(found, terms) == set()
    assert found.machine.results.get(terms.job_id()) is None
    ended = [r for r in found.records.runs_of(terms.job_id()) if r.state is RunStage.FAILED]
    assert ended and all("was signed for before" in run.reason for run in ended)


def test_older_database_comes_back__the_result_on_the_disk_counts(tmp_path: Path) -> None:
    """A backup knows a run that has ended since."""
    rig = begun(tmp_path / "agent")
    terms = assigned(rig)
    rig.cycle(2)
    rig.store.close()
    shutil.copy(rig.folder / "agent.sqlite", tmp_path / "backup")
    wal = rig.folder / "agent.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    rig = again(rig, terms)
    for run in rig.records.runs_in(RunStage.RUNNING):
        rig.runner.requests[run.run_id] = None  # type: ignore[assignment]
    run_on(rig, terms, "42")
    first = spoken(rig, terms)
    assert len(first) == 1
    rig.duty.close()
    rig.store.close()
    shutil.copy(tmp_path / "backup", rig.folder / "agent.sqlite")
    for side in ("-wal", "-shm"):
        Path(f"{rig.folder / 'agent.sqlite'}{side}").unlink(missing_ok=True)
    found = again(rig, terms)
    run_on(found, terms, "another")
    assert spoken(found, terms) == first
    assert [i for i in IntentState if found.store.intents_in(i)] == [IntentState.PLANNED]
