# SPDX-License-Identifier: Apache-2.0
"""Nothing is promised while something says that it could not be kept: a missed job, a wrong clock,
a chain that was not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from provider_agent.cli import main as cli
from provider_agent.core.clock import ChainClock, Drift
from provider_agent.modules.jobs.halt import RESUME, halted
from provider_agent.runners.base import Phase, RunState
from teraproof.errors import Refused
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import Status, Terms
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import TENANT
from tests.agent.duty_rig import Rig
from tests.agent.test_quotes import desk_of


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.cycle()
    yield made
    made.duty.close()


def miss(rig: Rig, expired: bool = False) -> Terms:
    """A job of ours that is not delivered by its deadline; somebody may have ended it since."""
    terms = rig.post(rig.spec(inputs=[], name=f"missed {rig.nonce}"), duration=100, collateral=0)
    rig.assign(terms)
    rig.next_block(101)
    if expired:
        rig.chain.words[terms.job_id()] = Status.EXPIRED
    return terms


def order(rig: Rig) -> Terms:
    """An order that is taken when nothing is in the way."""
    spec = rig.spec()
    rig.upload(spec)
    return rig.post(spec)


def taken(rig: Rig, terms: Terms) -> bool:
    made = rig.store.intents_of(terms.job_id().hex())
    return any(intent.key.action == "accept" for intent in made)


def not_ready(rig: Rig, terms: Terms) -> bool:
    """Whether neither the order is taken nor a quote signed, and both hear why."""
    with pytest.raises(Refused) as error:
        desk_of(rig).issue(TENANT, rig.spec())
    codes = {error.value.code, rig.blocked(terms)}
    return codes == {Code.AGENT_NOT_READY} and not taken(rig, terms)


# ---------------------------------------------------------------------- a missed job


@pytest.mark.parametrize("expired", [False, True])
def test_missed_job__no_other_is_taken_until_a_trial_has_passed(rig: Rig, expired: bool) -> None:
    rig.trial_fails = True
    miss(rig, expired)
    terms = order(rig)
    rig.cycle(3)
    assert rig.trials == 1, "not in every cycle"
    assert not_ready(rig, terms)
    assert not rig.halt.check().ok
    assert "a trial has failed" in rig.halt.check().detail
    rig.restart()
    rig.cycle()
    assert not_ready(rig, terms), "also after a restart"
    rig.trial_fails = False
    rig.next_block(61)
    rig.cycle()
    assert taken(rig, terms)
    assert rig.halt.check().ok


def test_missed_job__trial_shows_a_bug__the_cycle_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def broken() -> None:
        tried.append(1)
        raise OSError("No space left on device")

    monkeypatch.setattr(rig.halt, "_trial", broken)
    miss(rig)
    rig.cycle(3)
    assert len(tried) == 1, "not in every cycle"
    assert rig.halt.refuse() is not None


def test_missed_job__seen_again_and_again__halts_once(rig: Rig) -> None:
    miss(rig)
    for _ in range(3):
        rig.next_block()
        rig.cycle()
        rig.restart()
        rig.cycle()
    assert rig.trials == 1
    assert rig.halt.refuse() is None


def test_missed_jobs_in_a_row__a_person_has_to_look(rig: Rig) -> None:
    for _ in range(2):
        miss(rig)
        rig.cycle()
    terms = order(rig)
    for _ in range(3):
        rig.next_block(100)
        rig.cycle()
    assert rig.trials == 1, "a trial explains one missed job, not two"
    assert not taken(rig, terms)
    assert "provider-agent resume" in halted(rig.store)
    (rig.folder / RESUME).touch()
    terms = order(rig)
    rig.cycle()
    assert taken(rig, terms)
    assert halted(rig.store) == ""
    assert not (rig.folder / RESUME).exists()


def test_missed_jobs_with_one_delivered_in_between__a_trial_will_do(rig: Rig) -> None:
    miss(rig)
    rig.cycle()
    spec = rig.spec()
    rig.upload(spec)
    done = rig.post(spec)
    rig.assign(done)
    rig.cycle()
    rig.runner.end(rig.runner.started[-1].run_id)
    rig.cycle(2)
    rig.chain.words[done.job_id()] = Status.ATTESTED
    rig.records.update_job(done.job_id(), status=Status.ATTESTED)
    rig.halt.delivered()
    miss(rig)
    rig.next_block(61)
    rig.cycle(2)
    assert rig.trials == 2
    assert rig.halt.refuse() is None


@pytest.mark.parametrize(("days", "halts"), [(0, True), (2, False)])
def test_expired_job_of_old__shown_again_by_a_lost_database__halts_nothing(
    rig: Rig, days: int, halts: bool
) -> None:
    terms = rig.post(rig.spec(inputs=[]), duration=100, collateral=0)
    rig.assign(terms)
    assigned = rig.block.timestamp
    rig.next_block(101 + days * 86_400)
    rig.chain.words[terms.job_id()] = Status.EXPIRED
    rig.records.update_job(terms.job_id(), status=Status.EXPIRED, assigned_at=assigned)
    rig.cycle()
    assert rig.trials == int(halts)


def test_job_of_another_provider_expires__nothing_happens(rig: Rig) -> None:
    terms = rig.post(rig.spec(inputs=[]))
    rig.assign(terms, provider=TENANT)
    rig.chain.words[terms.job_id()] = Status.EXPIRED
    rig.cycle()
    assert rig.halt.refuse() is None and rig.trials == 0


@pytest.mark.parametrize("expires", [False, True])
def test_missed_job__ended_by_the_agent_only_if_the_owner_says_so(
    tmp_path: Path, expires: bool
) -> None:
    rig = Rig(tmp_path, jobs={"expire_missed": expires})
    rig.cycle()
    terms = miss(rig)
    rig.cycle(2)
    actions = [i.key.action for i in rig.store.intents_of(terms.job_id().hex())]
    assert actions == (["expire"] if expires else [])
    rig.duty.close()


def test_resume__command__leaves_word_for_the_agent(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "provider.toml"
    address = "0x" + "0a" * 20
    file.write_text(
        f'[chain]\nrpc_urls = ["http://127.0.0.1:1"]\nchain_id = 1\nstaking = "{address}"\n'
        f'jobs = "{address}"\n[operator]\n[agent]\ndata_dir = "data"\n'
    )
    done = CliRunner().invoke(cli.main, ["resume", "--config", str(file)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "data" / RESUME).exists()
    (tmp_path / "data" / RESUME).unlink()
    (tmp_path / "data").rmdir()
    done = CliRunner().invoke(cli.main, ["resume", "--config", str(file)])
    assert done.exit_code == Exit.INPUT
    assert "has not run yet" in done.stderr and isinstance(done.exception, SystemExit)


# ---------------------------------------------------------------------- the clock


def head(number: int, timestamp: float) -> BlockRef:
    return BlockRef(number, number.to_bytes(32, "big"), int(timestamp))


@pytest.mark.parametrize(("off", "ready"), [(0, True), (100, True), (-100, True),
                                            (3600, False), (-3600, False)])  # fmt: skip
def test_clock__too_far_from_the_chains__nothing_is_promised(
    rig: Rig, off: float, ready: bool
) -> None:
    rig.wall_is_off = off
    terms = order(rig)
    for number in range(3):
        rig.drift.see(head(number, rig.now))
        rig.next_block()
    rig.cycle()
    assert rig.drift.check().ok is ready
    assert taken(rig, terms) is ready
    assert ready or not_ready(rig, terms)
    if not ready:
        assert ("ahead of" if off > 0 else "behind") in rig.drift.check().detail
        rig.wall_is_off = 0
        for number in range(3, 9):
            rig.drift.see(head(number, rig.now))
            rig.next_block()
        rig.cycle()
        assert taken(rig, terms), "the clock was set"


@pytest.mark.parametrize("late", [[0, 30, 200, 7], [900, 0], [1000, 1000, 40, 3]])
def test_clock__blocks_that_are_seen_late__are_no_wrong_clock(late: list[int]) -> None:
    """A slow cycle, a chain that was quiet before the start, a node that catches up."""
    drift = Drift(120, lambda: 1_000_000.0)
    for number, seconds in enumerate(late):
        drift.see(head(number, 1_000_000 - seconds))
    assert not drift.is_off


def test_clock__chain_stands_still__no_wrong_clock() -> None:
    now = [1_000_000.0]
    drift = Drift(120, lambda: now[0])
    drift.see(head(1, now[0]))
    drift.see(head(2, now[0]))
    now[0] += 10_000
    drift.see(head(2, 1_000_000))
    assert not drift.is_off


# ---------------------------------------------------------------------- after a pause


def test_stopped_in_a_cycle__looks_again_before_it_takes_a_job(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = order(rig)
    look = rig.book.missing_inputs

    def stopped(requester: str, spec: JobSpec) -> int:
        rig.now += 3600  # SIGSTOP, or a laptop that sleeps
        return look(requester, spec)

    with monkeypatch.context() as patch:
        patch.setattr(rig.book, "missing_inputs", stopped)
        rig.cycle()
    assert not taken(rig, terms)
    rig.next_block(0)
    rig.cycle()
    assert taken(rig, terms)


def test_stopped_between_two_cycles__no_quote_before_the_next_look(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.now += 3600
    with pytest.raises(Refused) as error:
        desk_of(rig).issue(TENANT, spec)
    assert error.value.code is Code.AGENT_NOT_READY
    rig.next_block(0)
    rig.cycle()
    desk_of(rig).issue(TENANT, spec)


def test_chain_clock__goes_on_without_blocks_and_never_back() -> None:
    now = [50.0]
    clock = ChainClock(lambda: now[0])
    assert (clock.now(), clock.age()) == (0, float("inf"))
    assert clock.see(1_000) == 1_000
    now[0] += 7
    assert (clock.see(1_000), clock.age()) == (1_007, 0)
    now[0] += 3
    assert (clock.now(), clock.age()) == (1_010, 3)


def test_lost_run_in_time__no_halt(rig: Rig) -> None:
    """Only what missed its deadline counts: a run that is repeated does not."""
    spec = rig.spec()
    rig.upload(spec)
    rig.assign(rig.post(spec))
    rig.cycle()
    rig.runner.states[rig.runner.started[-1].run_id] = RunState(Phase.LOST)
    rig.cycle(2)
    assert rig.halt.refuse() is None and rig.trials == 0
