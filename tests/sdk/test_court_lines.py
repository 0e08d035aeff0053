# SPDX-License-Identifier: Apache-2.0
"""What people read about disputes and seats: the amounts, and what to do where there is nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from teraproof.courts.votes import Opinion, Vote
from teraproof.market.credits import credits_of
from teraproof.protocol.digests import Origin
from teraproof.protocol.errors import Exit
from tests.sdk.courtroom import Courtroom, Person, deploy_court
from tests.support.anvil import Anvil

NAME = "finetune|python-ml|cpu"
TRUTH = b"the manifest of the run"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courtroom]:
    with Anvil() as running:
        yield deploy_court(tmp_path_factory.mktemp("court"), running)


@pytest.fixture
def lone(empty: Courtroom) -> Iterator[Courtroom]:
    """All seats are those of one juror: it cannot judge a dispute twice."""
    with empty.anvil.isolated():
        empty.juror(9)
        empty.anvil.increase_time(empty.court.period("latest"))
        yield empty
        empty.jurors.clear()


def test_seats__none__said_in_words(empty: Courtroom) -> None:
    shown = empty.stranger.json("juror", "seats", NAME)
    assert any(note.startswith(f"no juror has seats for {NAME} (0x") for note in shown["notes"])
    who = empty.stranger.address
    shown = empty.stranger.json("juror", "status", "--provider", who)
    assert shown["seats"] == [] and f"{who} has no seats, see juror enlist" in shown["notes"]


def test_resign__says_what_the_agents_setting_must_be(lone: Courtroom) -> None:
    ((owner, key),) = lone.jurors.items()
    lone.stranger.json("juror", "seats", NAME)
    operator = Person(lone.home, lone.anvil, key)
    operator.run("job", "list")
    seats = operator.shown("juror", "status", "--provider", owner)
    assert NAME in seats  # that was typed on this machine before
    notes = operator.json("juror", "resign", NAME, "--provider", owner)["notes"]
    assert any("`disputes.seats` must have 0" in note for note in notes)


@pytest.mark.parametrize("step", ["status", "next", "appeal", "claim"])
def test_not_disputed__why_and_what_can_be_done(lone: Courtroom, step: str) -> None:
    def said(job: bytes) -> str:
        code, line = lone.tenant.fails(Exit.REFUSED, "dispute", step, "0x" + job.hex())
        assert code == "not_disputed"
        return line

    for job, status in ((lone.post().job, "open"), (lone.accepted().job, "assigned")):
        line = said(job)
        assert f"is {status}: nothing to dispute yet" in line and "dispute open" not in line
    assert "no jurors decide on it" in said(lone.trusted(TRUTH).job)
    attested = lone.attested(TRUTH)
    assert f"dispute open {lone.name(attested)[:18]}" in said(attested.job)
    lone.anvil.increase_time(10 * 60 + 1)
    line = said(attested.job)
    assert "window is over" in line and "dispute open" not in line


def test_convict__in_a_dispute__price_at_once_and_the_bond_in_the_end(
    lone: Courtroom, tmp_path: Path
) -> None:
    job = lone.attested(TRUTH)
    lone.dispute(job)
    file = tmp_path / "said.json"
    file.write_text(json.dumps(lone.signed(job.job, job.terms.order.spec, b"other", lone.operator)))
    shown = lone.stranger.shown("dispute", "convict", lone.name(job), "--first", str(file))
    assert "its dispute goes on, for its bonds alone" in shown
    assert lone.find(job.job).outcome == "refunded"
    assert credits_of(lone.market, lone.stranger.address).stake == 0
    before = credits_of(lone.market, lone.tenant.address).payment
    lone.anvil.increase_time(lone.court.longest(job.terms.order.duration, "latest"))
    shown = lone.tenant.shown("dispute", "claim", lone.name(job))
    assert "of the bonds to " + lone.tenant.address in shown
    assert credits_of(lone.market, lone.tenant.address).payment > before


@pytest.mark.parametrize(
    ("vote", "who", "won", "lost"),
    [
        (
            Vote.RIGHT,
            "tenant",
            "10 tUSD and 24 TPF come to you; your bonds come back but for at most 60 tUSD of fees",
            "the provider is paid 10 tUSD; of your bonds at most 60 tUSD pay jurors",
        ),
        (
            Vote.WRONG,
            "owner",
            "you are paid 10 tUSD; your bonds come back but for at most 20 tUSD of fees",
            "30 TPF of collateral are seized; of your bonds at most 45 tUSD pay jurors",
        ),
    ],
)
def test_appeal__amounts_of_both_ends__and_that_no_juror_is_left(
    lone: Courtroom, vote: Vote, who: str, won: str, lost: str
) -> None:
    job = lone.attested(b"another" if vote is Vote.WRONG else TRUTH)
    lone.dispute(job)
    listed = lone.tenant.run("job", "status", lone.name(job)).output
    assert f"dispute status {lone.name(job)[:18]}" in " ".join(listed.split())
    lone.draw(job)
    lone.vote(job, Opinion.of(vote, TRUTH, Origin(job.job, lone.owner.address), 0), {})
    person: Person = getattr(lone, who)
    shown = person.shown("dispute", "appeal", lone.name(job))
    assert won in shown and lost in shown
    assert "9 of which cannot be drawn" in shown
    assert "no juror can be drawn now: without a jury the ruling stays as it is" in shown
