# SPDX-License-Identifier: Apache-2.0
"""What the disputes duty owes at each phase, to whom, and that it never says two things."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from eth_utils.crypto import keccak

from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.bench import Finding
from provider_agent.modules.disputes.juries import turn
from provider_agent.modules.disputes.module import _endpoint
from provider_agent.modules.disputes.repository import DisputesRepository
from provider_agent.modules.disputes.votes import VoteBook
from teraproof.contracts.disputes import COMMIT as COMMIT_CALL
from teraproof.contracts.disputes import REVEAL, Committed, Drawn
from teraproof.contracts.staking import EndpointChanged
from teraproof.courts import votes
from teraproof.courts.docket import Phase
from teraproof.courts.votes import Opinion, Ruling, Vote
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import Status
from tests.agent.disputes.court import CLOSE, COMMIT, DRAW, JURORS, PLACE
from tests.agent.disputes.duty_rig import JOB, LOG, MANIFEST, NOW, Rig
from tests.agent.duty_parts import OPERATOR, OTHER, OWNER, TENANT


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


# ---------------------------------------------------------------------------- votes


def test_drawn__votes_what_was_found__and_keeps_it_first(rig: Rig) -> None:
    rig.sit(1, 2)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert rig.intents() == {} and len(rig.bench.asked) == 1
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.cycle()
    opinion = VoteBook(rig.folder / "votes").of(rig.case, 0)
    assert opinion == Opinion.of(Vote.RIGHT, MANIFEST, rig.case.origin, 0)
    _, place, digest = COMMIT_CALL.decode_input(rig.intents()["commit-0"])
    salt = votes.salt(OPERATOR, Domain(1, PLACE), JOB, 0)
    assert digest == votes.commitment(JOB, 0, OWNER, opinion, salt) and place == 0
    # Whatever is found later, and after any crash, this is the vote.
    rig.bench.finding = Finding(Vote.WRONG, b"other")
    rig.restart()
    rig.cycle()
    assert set(rig.intents()) == {"commit-0"}


def test_nothing_found_in_time__withheld__never_silence(rig: Rig) -> None:
    rig.sit(1)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle(NOW + COMMIT // 2)
    assert rig.intents() == {}
    rig.cycle(NOW + COMMIT - COMMIT // 4)
    assert VoteBook(rig.folder / "votes").of(rig.case, 0) == Opinion(Vote.WITHHELD)
    assert "commit-0" in rig.intents()


def test_not_drawn__nothing_is_run_or_sent(rig: Rig) -> None:
    rig.sit(2, 3)
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert rig.intents() == {} and rig.bench.asked == [] and rig.duty.is_idle


def test_place_that_nobody_has__no_harm(rig: Rig) -> None:
    rig.sit(0, 99, 1)
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert COMMIT_CALL.decode_input(rig.intents()["commit-0"])[1] == 2


def reveal_of(rig: Rig) -> tuple[int, bytes]:
    _, _, kind, seal, _ = REVEAL.decode_input(rig.intents()["reveal-0"])
    return kind, seal


def committed(rig: Rig, opinion: Opinion) -> None:
    salt = votes.salt(OPERATOR, Domain(1, PLACE), JOB, 0)
    digest = votes.commitment(JOB, 0, OWNER, opinion, salt)
    kept = int.from_bytes(digest, "big") & ~(2**32 - 1)
    rig.sit(1, committed={0: kept}, stage=3)
    rig.stand(Phase.REVEALING, NOW + 300)


def test_reveal__of_what_was_committed(rig: Rig) -> None:
    opinion = Opinion.of(Vote.WRONG, MANIFEST, rig.case.origin, 0)
    VoteBook(rig.folder / "votes").keep(rig.case, 0, opinion)
    committed(rig, opinion)
    rig.cycle()
    assert reveal_of(rig) == (2, opinion.seal)


@pytest.mark.parametrize("vote", list(Vote))
def test_notes_are_lost__the_vote_is_found_again(rig: Rig, vote: Vote) -> None:
    if vote is Vote.WITHHELD:
        opinion = Opinion(vote)
    else:
        opinion = Opinion.of(vote, MANIFEST, rig.case.origin, 0)
    committed(rig, opinion)
    if vote is not Vote.WITHHELD:
        rig.cycle()
        assert rig.intents() == {} and rig.bench.asked, "it is judged again"
    rig.bench.manifest = MANIFEST
    rig.cycle()
    assert reveal_of(rig) == (int(vote), opinion.seal)


def test_reorg_takes_the_commit_away__the_same_one_is_wanted(rig: Rig) -> None:
    opinion = Opinion.of(Vote.RIGHT, MANIFEST, rig.case.origin, 0)
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.sit(1)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    before = rig.intents()["commit-0"]
    committed(rig, opinion)
    rig.cycle()
    rig.bench.finding = None
    rig.sit(1)
    rig.court.standing = (0, int(Phase.COMMITTING), NOW + COMMIT, 0)
    rig.duty.consume([], [JOB])
    rig.cycle()
    assert rig.intents()["commit-0"] == before


# ---------------------------------------------------------------------------- draws


def test_draw__each_waits_for_its_turn__and_for_the_block(rig: Rig) -> None:
    rig.sit(target=100)
    rig.court.rounds[0].since = NOW
    rig.stand(Phase.DRAWING, NOW + DRAW)
    rig.cycle(NOW + DRAW, number=99)
    assert rig.intents() == {}
    rig.cycle(NOW + DRAW // 2, number=100)
    assert b"header 100" in rig.intents()["draw-0"]


def test_draw__turns_differ(tmp_path: Path) -> None:
    case = Rig(tmp_path).case
    owners = [Provider(one.address, True, 0, 0, 0, bytes(32)) for one in JURORS]
    turns = {turn(case, one, 0, 10**6) for one in owners}
    assert len(turns) == len(owners) and max(turns) <= 10**6


def test_draw__no_seats_there__somebody_elses_gas(tmp_path: Path) -> None:
    rig = Rig(tmp_path, who=TENANT)
    rig.sit(target=90)
    rig.stand(Phase.DRAWING, NOW + DRAW)
    rig.cycle(NOW + DRAW)
    assert rig.intents() == {}


def test_draw_of_its_own_appeal__at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, who=TENANT)
    rig.sit(2)
    rig.sit(target=90, round=2)
    rig.court.rounds[2].since = NOW
    rig.stand(Phase.DRAWING, NOW + DRAW, Ruling.WRONG, 2)
    rig.cycle(NOW)
    assert "draw-2" in rig.intents()


# -------------------------------------------------------------- a result of our own


@pytest.fixture
def accused(tmp_path: Path) -> Rig:
    return Rig(tmp_path, who=TENANT)


def test_evidence__for_drawn_jurors_while_they_may_commit(accused: Rig) -> None:
    rig = accused
    rig.sit(2, 3)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    for account in (JURORS[0], JURORS[1]):
        assert rig.panels.until(JOB, f"operator of {account.address}") == NOW + COMMIT
    assert rig.panels.until(JOB, f"operator of {JURORS[2].address}") is None
    assert rig.panels.until(bytes(32), f"operator of {JURORS[0].address}") is None
    rig.stand(Phase.REVEALING, NOW + COMMIT + 10)
    rig.cycle()
    assert rig.panels.until(JOB, f"operator of {JURORS[0].address}") is None


@pytest.mark.parametrize("credit, money, allowed", [(55, 0, 0), (0, 55, 0), (0, 55, 55)])
def test_lost_and_right__appeals(accused: Rig, credit: int, money: int, allowed: int) -> None:
    rig = accused
    rig.jobs.credits, rig.jobs.money, rig.jobs.allowed = credit, money, allowed
    rig.sit(2)
    rig.stand(Phase.RULED, NOW + 300, Ruling.WRONG)
    rig.cycle()
    assert rig.intents() == {}, "first it runs the job again"
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.cycle()
    wanted = {"approve"} if money and not allowed else {"appeal"}
    assert set(rig.intents()) == wanted
    if wanted == {"approve"}:
        rig.jobs.allowed = 55
        rig.cycle()
        assert set(rig.intents()) == {"approve", "appeal"}


def test_lost__our_second_run_says_so_too__no_appeal(accused: Rig) -> None:
    rig = accused
    rig.jobs.credits = 55
    rig.bench.finding = Finding(Vote.WRONG, MANIFEST)
    rig.sit(2)
    rig.stand(Phase.RULED, NOW + 300, Ruling.WRONG)
    rig.cycle()
    assert rig.intents() == {}


@pytest.mark.parametrize("ruling, concludes", [(Ruling.RIGHT, True), (Ruling.WRONG, False)])
def test_final__the_winner_carries_it_out(accused: Rig, ruling: Ruling, concludes: bool) -> None:
    rig = accused
    rig.sit(2)
    rig.stand(Phase.FINAL, 0, ruling)
    rig.cycle()
    assert ("conclude" in rig.intents()) is concludes


def test_final__a_juror_carries_it_out_in_its_turn(rig: Rig) -> None:
    rig.sit(1)
    rig.stand(Phase.FINAL, 0, Ruling.WRONG)
    rig.cycle()
    rig.cycle(NOW + CLOSE // 4)
    assert "conclude" in rig.intents()


def test_over__nobody_may_read_and_nothing_is_held(accused: Rig) -> None:
    rig = accused
    rig.sit(2)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    rig.court.standing, rig.jobs.status_ = None, Status.SETTLED
    rig.duty.consume([Drawn(LOG, JOB, 0, ())], [])
    rig.cycle()
    rig.cycle()
    assert rig.bench.released == [JOB]
    assert rig.panels.until(JOB, f"operator of {JURORS[0].address}") is None


# ------------------------------------------------------------------------- strangers


def test_dispute_of_others__read_once(tmp_path: Path) -> None:
    """Whoever opens disputes must not cost all agents a reading in each cycle."""
    rig = Rig(tmp_path)
    rig.case = replace(rig.case, capability=b"\x01" * 32)
    rig.court.members = []
    rig.sit(1)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    before = rig.court.reads
    for _ in range(5):
        rig.duty.consume([Committed(LOG, JOB, TENANT, 0)], [])
        rig.cycle()
    assert rig.court.reads == before


def test_lost_database__found_again_by_the_events(rig: Rig, tmp_path: Path) -> None:
    rig.sit(1)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    rig.cycle()
    first = rig.intents()["commit-0"]
    (tmp_path / "new").mkdir()
    again = Rig(tmp_path / "new")
    again.sit(1)
    again.stand(Phase.COMMITTING, NOW + COMMIT)
    again.bench.finding = Finding(Vote.RIGHT, MANIFEST)
    again.cycle()
    assert again.intents()["commit-0"] == first


# ------------------------------------------------------------------------- endpoints


class Registry:
    """Staking as a juror asks it for the place of an agent."""

    def __init__(self, url: str, *events: str) -> None:
        self.url, self.events, self.searches = url, events, 0

    def endpoint_digest(self, owner: str, block: str) -> bytes:
        return bytes(keccak(text=self.url))

    def find_any(self, kinds: Any, first: int, *, provider: str) -> list[EndpointChanged]:
        self.searches += 1
        return [EndpointChanged(LOG, provider, url) for url in self.events]


def test_endpoint__by_the_events__that_the_chain_confirms(rig: Rig) -> None:
    store, now = DisputesRepository(rig.store), "https://new.example"
    registry = Registry(now, "https://old.example", now)
    rig.duty.consume([EndpointChanged(LOG, OTHER, now)], [])
    assert _endpoint(store, cast(Any, registry), OTHER, 0) == now and registry.searches == 0
    rig.duty.consume([EndpointChanged(LOG, OTHER, "https://old.example")], [])
    for _ in range(3):  # a lost event has history searched, and only once
        assert _endpoint(store, cast(Any, registry), OTHER, 0) == now
    assert registry.searches == 1


def test_endpoint__none_that_the_chain_confirms__one_line(rig: Rig) -> None:
    registry = Registry("https://new.example", "https://old.example")
    with pytest.raises(LocalError, match="announces no endpoint") as caught:
        _endpoint(DisputesRepository(rig.store), cast(Any, registry), OTHER, 0)
    assert caught.value.code is Code.AGENT_UNREACHABLE
