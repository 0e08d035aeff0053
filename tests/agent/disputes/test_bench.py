# SPDX-License-Identifier: Apache-2.0
"""What a juror finds: by its own run, by what is served, and never by a guess."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.comparator.compare import Comparator, Files, Verdict
from provider_agent.comparator.compare import Finding as Compared
from provider_agent.core import fetches
from provider_agent.core.capacity import Amounts, Capacity, Hold, Kind
from provider_agent.modules.disputes.room import MODULE
from provider_agent.runners.base import Phase, Reason, RunState
from teraproof.courts.votes import Opinion, Vote, attested
from teraproof.errors import LocalError
from teraproof.protocol.digests import Origin, result_digest, seal
from teraproof.protocol.errors import Code
from tests.agent.disputes.rig import JOB, PLENTY, UNTIL, BenchRig, failure, spec_of
from tests.agent.duty_parts import OTHER, OWNER, START

RUN = f"juror-{JOB.hex()}"
GOOD = {"answer": b"42"}


def test_same_result__right__with_the_seal_of_its_own_run(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT
    for number in range(3):
        shown = Opinion.of(found.vote, found.manifest, rig.case.origin, number).seal
        assert attested(shown, number) == rig.case.result
    # Its own run is shown to the provider, which must serve the bytes for it.
    assert rig.served.asked == [seal(rig.attested, rig.case.origin)]
    assert rig.runner.list() == () and rig.capacity.holds() == {}


def test_one_byte_is_other__wrong__also_if_nothing_is_served(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"answer": b"43"})
    rig.served.files = None
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.WRONG
    assert (
        attested(Opinion.of(found.vote, found.manifest, rig.case.origin, 0).seal, 0)
        != rig.case.result
    )
    assert rig.served.asked == [], "its own run is enough"


@pytest.mark.parametrize("other", [Origin(b"\x22" * 32, OWNER), Origin(JOB, OTHER)])
def test_digest_of_another_job__wrong__though_the_bytes_are_the_same(
    tmp_path: Path, other: Origin
) -> None:
    """It was read from the chain: whoever attests it need not have run anything."""
    rig = BenchRig(tmp_path, GOOD)
    rig.case = replace(rig.case, result=result_digest(rig.attested, other))
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.WRONG
    # The seal that it shows is of this job alone: of no use where the digest comes from.
    shown = Opinion.of(found.vote, found.manifest, rig.case.origin, 2).seal
    assert attested(shown, 2) == result_digest(rig.attested, rig.case.origin) != rig.case.result


def test_digest_of_another_job__by_numbers__nothing_served_fits_it(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD, compare={"rule": "numeric", "rtol": "1e-5", "atol": "0"})
    rig.case = replace(rig.case, result=result_digest(rig.attested, Origin(JOB, OTHER)))
    rig.served.shows = True
    rig.run()
    assert rig.judge(3) is None
    assert "not the one attested" in rig.bench.why(JOB)


def test_right_result_that_nobody_can_have__no_finding(tmp_path: Path) -> None:
    """Asked for until the end; then the vote is WITHHELD (see the duty)."""
    rig = BenchRig(tmp_path, GOOD)
    rig.served.files = None
    rig.run()
    assert rig.judge(3) is None
    assert "nobody there" in rig.bench.why(JOB)
    rig.served.files = dict(GOOD)
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT


def test_inputs_are_not_served__asked_again_and_nothing_runs(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.served.inputs = None
    assert rig.judge(3) is None and rig.runner.list() == ()
    rig.served.inputs = b"print(1)"
    rig.run()
    assert rig.judge() is not None


@pytest.mark.parametrize(
    "change",
    [
        {"resources": {"cpus": 1, "memory_mb": 10_000, "disk_mb": 64, "gpus": 0}},
        {"runtime": "another"},
        {"kind": "train"},
        {"resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 1}},
    ],
)
def test_cannot_be_run_here__withheld(tmp_path: Path, change: dict[str, Any]) -> None:
    rig = BenchRig(tmp_path, GOOD, **change)
    found = rig.judge()
    assert found is not None and found.vote is Vote.WITHHELD and found.manifest == b""
    assert rig.runner.started == []


# ------------------------------------------------------------------------- failures


def test_same_failure__right__by_the_salted_file_alone(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"failure.json": failure(3)})
    rig.served.shows = True
    rig.run(code=3)
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT
    assert found.manifest == rig.attested


def test_same_failure_that_is_not_served__no_vote_for_it(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"failure.json": failure(3)})
    rig.served.files = None
    rig.run(code=3)
    assert rig.judge(3) is None


@pytest.mark.parametrize("theirs", [{"failure.json": failure(4)}, GOOD])
def test_fails_twice_alike__wrong(tmp_path: Path, theirs: dict[str, bytes]) -> None:
    rig = BenchRig(tmp_path, theirs)
    rig.served.shows = "failure.json" in theirs
    rig.run(code=3)
    assert rig.judge() is None, "it runs again: this machine may be to blame"
    rig.run(code=3)
    found = rig.judge()
    assert found is not None and found.vote is Vote.WRONG
    assert (
        attested(Opinion.of(found.vote, found.manifest, rig.case.origin, 1).seal, 1)
        != rig.case.result
    )


def test_failed_once_by_itself__its_second_run_counts(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.run(code=3)
    assert rig.judge() is None
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT


@pytest.mark.parametrize(
    "reason, code",
    [
        (Reason.TIMEOUT, None),
        (Reason.MEMORY, None),
        (Reason.DISK, None),
        (Reason.PIDS, None),
        (Reason.OUTPUT, None),
        (Reason.EXITED, 137),
    ],
)
def test_ended_by_a_limit_or_a_signal__says_nothing_of_the_result(
    tmp_path: Path, reason: Reason, code: int | None
) -> None:
    rig = BenchRig(tmp_path, GOOD)
    for _ in range(2):
        rig.run(reason=reason, code=code)
        found = rig.judge()
    assert found is not None and found.vote is Vote.WITHHELD


def test_success_where_a_failure_is_attested__wrong(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"failure.json": failure(3)})
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.WRONG


@pytest.mark.parametrize("reason", [Reason.MACHINE, Reason.DEVICE, Reason.SANDBOX_FAILED])
def test_fault_of_our_machine__run_again_and_no_vote(tmp_path: Path, reason: Reason) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.run(reason=reason)
    assert rig.judge() is None
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT


# ----------------------------------------------------------------- crashes and room


@pytest.mark.parametrize("after", range(4))
def test_killed_at_any_step__goes_on_with_one_run(tmp_path: Path, after: int) -> None:
    rig = BenchRig(tmp_path, GOOD)
    for step in range(4):
        if step == after:
            rig.restart()
        if step == 1:
            rig.runner.end(RUN)
        found = rig.judge() if step < 3 else rig.judge(2)
    assert found is not None and found.vote is Vote.RIGHT
    assert len(rig.runner.started) == 1


def test_finding__stays_the_same_whatever_is_served_later(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.run()
    first = rig.judge()
    rig.restart()
    rig.served.files = rig.served.inputs = None
    assert rig.judge() == first


def test_paid_work_comes_first__until_the_vote_would_be_late(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.runner.states["paid"] = RunState(Phase.RUNNING, started=START)
    rig.runner.requests["paid"] = _request("paid")
    (tmp_path / "runs" / "paid").mkdir(parents=True)
    assert rig.judge(3) is None and rig.runner.started == []
    assert "paid work" in rig.bench.why(JOB)
    rig.now = UNTIL - 10
    rig.judge()
    assert [run.run_id for run in rig.runner.started] == [RUN]


def test_room__is_reserved_and_given_back(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.judge()
    assert (MODULE, JOB) in rig.capacity.holds(Kind.OWED)
    rig.bench.release(JOB)
    assert rig.capacity.holds() == {}


def test_slots_are_promised__waits(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.capacity.put("jobs", Hold(Kind.OWED, Amounts(slots=4)))
    assert rig.judge(2) is None and rig.runner.started == []


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("short", ["disk", "inodes"])
def test_no_room_on_the_disk__nothing_is_fetched(tmp_path: Path, short: str, late: bool) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.there = replace(rig.there, **{short: 1_000})
    fetched: list[str] = []
    rig.served.before = fetched.append
    rig.now = UNTIL - 10 if late else START
    assert rig.judge(3) is None and fetched == []
    assert "room on the disk" in rig.bench.why(JOB)
    rig.there = PLENTY
    rig.run()
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_memory_is_promised_to_others__no_run(tmp_path: Path, late: bool) -> None:
    """A vote that would be late skips the line, and takes nothing that is another's."""
    rig = BenchRig(tmp_path, GOOD)
    rig.there = replace(rig.there, slots=1, memory=100 << 20)
    rig.slots = 3
    rig.restart()
    rig.capacity.put("paid", Hold(Kind.OWED, Amounts(slots=1, memory=60 << 20)))
    rig.now = UNTIL - 10 if late else START
    assert rig.judge(3) is None and rig.runner.started == []
    assert "memory" in rig.bench.why(JOB)
    rig.capacity.release("paid")
    rig.judge()
    assert [run.run_id for run in rig.runner.started] == [RUN]


def test_waits_for_room__new_work_and_offers_do_not_take_it(tmp_path: Path) -> None:
    """Whoever asks for quotes without end must not keep a juror from its run."""
    rig = BenchRig(tmp_path, GOOD)
    rig.there = replace(rig.there, memory=100 << 20)
    rig.slots = 3
    rig.restart()
    half = Amounts(slots=1, memory=60 << 20)
    rig.capacity.put("paid", Hold(Kind.OWED, half))
    assert rig.judge(3) is None
    rig.capacity.release("paid")
    for kind in (Kind.OFFERED, Kind.OWED):
        assert not rig.capacity.reserve("new", Hold(kind, half))
    rig.judge()
    assert [run.run_id for run in rig.runner.started] == [RUN]


def test_dispute_is_over_while_it_waits__nothing_is_kept_for_it(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.there = replace(rig.there, disk=1_000)
    rig.judge(2)
    rig.bench.release(JOB)
    rig.there = replace(PLENTY, slots=1)
    all_of_it = Amounts(slots=1, memory=PLENTY.memory, disk=PLENTY.disk)
    assert rig.capacity.reserve("new", Hold(Kind.OWED, all_of_it))


def test_room_of_all_that_comes__from_before_it_is_fetched(tmp_path: Path) -> None:
    size = 5 << 20
    entry = {"path": "in", "sha256": "ab" * 32, "size": size}
    rig = BenchRig(tmp_path, GOOD, inputs=[entry])
    held: list[int] = []

    def look(what: str) -> None:
        held.append(sum(hold.amounts.disk for hold in rig.capacity.holds(Kind.OWED).values()))

    rig.served.before = look
    rig.run()
    rig.judge()
    most = rig.served.most[0]
    # The inputs, the run, its result, and theirs.
    assert held and min(held) >= 2 * size + 2 * most
    assert most <= size + (64 + 16 << 20), "no more than the job can have made"


def test_restart_in_a_run__its_room_is_taken_though_others_have_come(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.judge()
    rig.capacity = Capacity(lambda: rig.there)
    rig.there = replace(rig.there, disk=0, memory=0)
    rig.served.inputs = None
    rig.restart()
    rig.judge()
    assert {(MODULE, JOB), (MODULE, JOB, "run")} <= rig.capacity.holds().keys()
    rig.runner.end(RUN)
    found = rig.judge(3)
    assert found is not None, "what it is to judge lies on the disk"


def test_dispute_ends__what_is_under_way_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = BenchRig(tmp_path, GOOD)
    monkeypatch.setattr(fetches, "_PATIENCE", 0.01)
    here, cut = threading.Event(), threading.Event()

    def drip(what: str) -> None:
        here.set()
        assert cut.wait(30), "nothing ends it"
        raise LocalError("cut off", Code.AGENT_UNREACHABLE)

    rig.served.before = drip
    rig.served.cut_off = cut.set  # type: ignore[method-assign]
    for _ in range(1_000):
        rig.judge()
        if here.wait(0.01):
            break
    assert here.is_set(), rig.bench.why(JOB)
    rig.bench.release(JOB)
    assert cut.is_set() and rig.capacity.holds() == {}
    rig.bench.close()


def test_clear__nothing_is_left(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, GOOD)
    rig.run()
    rig.judge()
    assert rig.bench.jobs() == [JOB]
    rig.bench.clear(JOB)
    assert rig.bench.jobs() == [] and rig.runner.list() == ()


def _request(run_id: str) -> Any:
    from provider_agent.runners.base import Limits, RunRequest

    return RunRequest(run_id, spec_of().command, Limits(1, 1, 1, 1, 1, 1))


# -------------------------------------------------------------------------- numbers

NUMERIC = {"compare": {"rule": "numeric", "rtol": "1e-3", "atol": "0"}, "outputs": ["answer"]}


@pytest.mark.parametrize(
    "verdict, vote",
    [
        (Verdict.EQUAL, Vote.RIGHT),
        (Verdict.DIFFERENT, Vote.WRONG),
        (Verdict.CANNOT, Vote.RIGHT),
    ],
)
def test_numbers__as_the_comparison_says__with_the_attested_seal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, vote: Vote
) -> None:
    """All jurors that saw the same result show the same seal, whatever their machines round to."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(self: Comparator, name: str, rule: Any, ours: Files, theirs: Files) -> Compared:
        files = [(side.directory / "answer").read_bytes() for side in (ours, theirs)]
        compared.append((files[0], files[1]))
        return Compared(verdict)

    monkeypatch.setattr(Comparator, "compare", compare)
    rig = BenchRig(tmp_path, {"answer": b"1.0001"}, **NUMERIC)
    rig.served.shows = True
    rig.run(b"1.0002")
    found = rig.judge()
    assert found is not None and found.vote is vote
    assert found.manifest == rig.attested
    assert compared == [(b"1.0002", b"1.0001")]


def test_numbers__not_served__no_vote_for_or_against(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"answer": b"1.0001"}, **NUMERIC)
    rig.served.files = None
    rig.run(b"1.0002")
    assert rig.judge(3) is None


def test_numbers__the_same_bytes__no_comparison(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"answer": b"1.0001"}, **NUMERIC)
    rig.run(b"1.0001")
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT


def test_numbers__both_failed_alike__right_without_a_comparison(tmp_path: Path) -> None:
    rig = BenchRig(tmp_path, {"failure.json": failure(3)}, **NUMERIC)
    rig.served.shows = True
    rig.run(code=3)
    found = rig.judge()
    assert found is not None and found.vote is Vote.RIGHT and found.manifest == rig.attested
