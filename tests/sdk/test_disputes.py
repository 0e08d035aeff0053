# SPDX-License-Identifier: Apache-2.0
"""`teraproof dispute` and `teraproof juror` on a real court: who gets what, and every refusal."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from teraproof.amounts import show_local
from teraproof.courts.docket import Phase
from teraproof.courts.votes import Opinion, Vote
from teraproof.market.credits import credits_of
from teraproof.market.jobs import Job
from teraproof.protocol.digests import Origin, manifest
from teraproof.protocol.errors import Exit
from teraproof.protocol.terms import Judged
from tests.sdk.courtroom import (
    COLLATERAL,
    EXAMPLE,
    JURORS,
    PRICE,
    SEATS,
    Courtroom,
    Person,
)

TRUTH, LIE = b"the manifest of the run", b"what the provider attests instead"
NAME = "finetune|python-ml|cpu"
# Of the local plan: a vote is half of the price, the first jury has three of them.
FEE, PANEL, REDRAW, APPEAL = PRICE // 2, 3, 5, 9


def opinion_of(vote: Vote, job: Job, number: int = 0) -> Opinion:
    """What a juror says whose own run gave the truth."""
    return Opinion.of(vote, TRUTH, Origin(job.job, str(job.provider)), number)


right, wrong = partial(opinion_of, Vote.RIGHT), partial(opinion_of, Vote.WRONG)


def paid(room: Courtroom, person: Person) -> int:
    return credits_of(room.market, person.address).payment


# ---------------------------------------------------------------------- an order with a jury


def test_order_for_a_court__says_who_would_judge_it_and_what_a_dispute_takes(
    room: Courtroom,
) -> None:
    line = ("job", "post", str(EXAMPLE), "--price", "10", "--judged", "court")
    shown = room.tenant.shown(*line, "--wait-for-provider")
    assert f"{JURORS * SEATS} seats of {JURORS} owners" in shown
    assert "a bond of 40 tUSD; 5 tUSD for each vote" in shown
    assert "jurors run the job again, and their ruling brings the price back" in shown
    code, said = room.tenant.fails(Exit.REFUSED, *line[:4], "900", *line[5:])
    assert code == "no_jury" and f"needs {9 + 9}; lower the price" in said
    code, said = room.tenant.fails(Exit.REFUSED, *line, "--duration", "2 hours")
    assert code == "no_jury" and "1 h are the most" in said


# ---------------------------------------------------------------------- disputes


def test_wrong_result__the_tenant_gets_price_compensation_and_what_the_jurors_leave(
    room: Courtroom,
) -> None:
    job = room.attested(LIE)
    name, bond = room.name(job), PRICE + (REDRAW + PANEL // 2) * FEE
    opened = room.tenant.json("dispute", "open", name, "--output", str(room.home / "none"))
    assert opened["bond"] == str(bond) and opened["served"] is False
    assert any("was not served" in note for note in opened["notes"])

    code, said = room.stranger.fails(Exit.UNAVAILABLE, "dispute", "claim", name)
    assert code == "not_ready" and "not final" in said
    # A second after it was opened: the block is named, and when to look again.
    code, said = room.stranger.fails(Exit.UNAVAILABLE, "dispute", "next", name)
    assert code == "not_ready" and "drawn from block" in said and "try again after" in said
    room.anvil.mine(3)
    assert room.stranger.json("dispute", "status", name)["due"] == "draw"
    assert room.stranger.json("dispute", "next", name)["done"] == "draw"
    status = room.stranger.json("dispute", "status", name)
    assert status["phase"] == "committing" and sum(v["votes"] for v in status["votes"]) == PANEL
    assert {v["juror"] for v in status["votes"]} <= set(room.jurors)
    code, said = room.stranger.fails(Exit.UNAVAILABLE, "dispute", "next", name)
    assert code == "not_ready" and "jurors run the job and commit" in said
    assert "try again after" in said

    room.vote(job, wrong(job), {})
    status = room.stranger.json("dispute", "status", name)
    assert (status["phase"], status["ruling"]) == ("ruled", "wrong")
    shown = room.stranger.shown("dispute", "status", name)
    assert f"{room.owner.address} or {room.operator.address}: dispute appeal" in shown
    code, said = room.tenant.fails(Exit.REFUSED, "dispute", "appeal", name)
    assert code == "not_loser" and f"is against {room.owner.address}" in said

    room.pass_phase(job)
    claimed = room.stranger.json("dispute", "claim", name)
    assert any("of the bonds to" in line for line in claimed["lines"])
    assert paid(room, room.tenant) == PRICE + bond - PANEL * FEE
    assert credits_of(room.market, room.tenant.address).stake == COLLATERAL * 8 // 10
    assert paid(room, room.owner) == 0
    fees = sum(credits_of(room.market, juror).payment for juror in room.jurors)
    assert fees == PANEL * FEE

    over = room.stranger.json("dispute", "status", name)
    assert over["open"] is False and over["for_requester"] is True
    assert "over" in room.stranger.shown("dispute", "status", name)
    code, said = room.stranger.fails(Exit.REFUSED, "dispute", "claim", name)
    assert code == "not_disputed" and "the job is refunded" in said
    assert room.stranger.json("job", "list")["jobs"] == []
    (listed,) = room.tenant.json("job", "list")["jobs"]
    assert (listed["status"], listed["outcome"]) == ("refunded", "refunded")


def test_right_result__disputed_and_appealed__costs_the_tenant_all_votes(room: Courtroom) -> None:
    job = room.attested(TRUTH)
    name = room.name(job)
    room.tenant.json("dispute", "open", name, "--output", str(room.home / "none"))
    room.draw(job)
    room.vote(job, right(job), {})
    code, said = room.owner.fails(Exit.REFUSED, "dispute", "appeal", name)
    assert code == "not_loser" and f"is against {room.tenant.address}" in said
    room.tenant.json("dispute", "appeal", name)
    code, said = room.tenant.fails(Exit.REFUSED, "dispute", "appeal", name)
    assert code == "time_over" and "appealed already" in said
    shown = room.stranger.shown("dispute", "status", name)
    assert "which is appealed" in shown and "jury of the appeal" in shown
    room.draw(job)
    earlier = {place.juror for place in room.read(job).rounds[0].places}
    assert not earlier & {place.juror for place in room.read(job).current.places}
    cast = room.cast(job)
    room.vote(job, right(job, 2), {})
    room.stranger.json("dispute", "next", name)
    bonds = PRICE + (REDRAW + PANEL // 2) * FEE + APPEAL * FEE
    assert paid(room, room.tenant) == bonds - (PANEL + cast) * FEE
    assert paid(room, room.owner) == PRICE * 99 // 100  # less the market's fee of 1 %


def test_wrong_result__the_provider_appeals_from_its_credit_and_loses(room: Courtroom) -> None:
    """Bonds of the loser pay first: the tenant gets its own back whole."""
    job = room.attested(LIE)
    name = room.name(job)
    room.dispute(job)
    room.draw(job)
    room.vote(job, wrong(job), {})
    code, said = room.owner.fails(Exit.REFUSED, "dispute", "appeal", name, "--from-credit")
    assert code == "funds_missing" and "0 tUSD of credit" in said
    jobs_contract = room.market.jobs
    approve = room.market.payment.approve(jobs_contract.address, APPEAL * FEE)
    room.send(room.owner.key, room.market.payment, approve)
    room.send(room.owner.key, jobs_contract, jobs_contract.deposit(APPEAL * FEE))
    appealed = room.owner.json("dispute", "appeal", name, "--from-credit")
    assert [one["what"] for one in appealed["transactions"]] == ["appeal"]
    room.draw(job)
    fees = (PANEL + room.cast(job)) * FEE
    room.vote(job, wrong(job, 2), {})
    room.stranger.json("dispute", "claim", name)
    bond = PRICE + (REDRAW + PANEL // 2) * FEE
    assert paid(room, room.tenant) == PRICE + bond - max(0, fees - APPEAL * FEE)
    # Votes that nobody had cost nothing.
    assert paid(room, room.owner) == max(0, APPEAL * FEE - fees)


def test_silent_jury__a_larger_one__the_requester_first_then_anyone(room: Courtroom) -> None:
    job = room.attested(LIE)
    name = room.name(job)
    room.dispute(job)
    room.draw(job)
    room.vote(job, None, {})
    assert room.standing(job) is Phase.FAILED
    code, said = room.stranger.fails(Exit.UNAVAILABLE, "dispute", "next", name)
    assert code == "not_ready" and "the requester may ask" in said
    half = room.read(job).until - room.court.redraw_time("latest") // 2
    assert f"try again after {show_local(half, room.market.now())[:16]}" in said
    shown = room.stranger.shown("dispute", "status", name)
    assert "nothing: it is fined" in shown and "the provider is paid after" in shown
    with room.anvil.isolated():
        room.anvil.increase_time(11 * 60)
        assert room.stranger.json("dispute", "next", name)["done"] == "redraw"
    assert room.tenant.json("dispute", "next", name)["done"] == "redraw"
    room.draw(job)
    cast = room.cast(job)
    room.vote(job, wrong(job, 1), {})
    room.pass_phase(job)
    room.stranger.json("dispute", "claim", name)
    bond = PRICE + (REDRAW + PANEL // 2) * FEE
    assert paid(room, room.tenant) == PRICE + bond - cast * FEE


def test_no_jury_ever__the_tenant_pays_and_gets_its_bond_back(room: Courtroom) -> None:
    job = room.attested(LIE)
    room.dispute(job)
    room.pass_phase(job)  # nobody draws
    assert room.standing(job) is Phase.FAILED
    room.pass_phase(job)  # nobody asks again
    done = room.stranger.json("dispute", "next", room.name(job))
    assert done["done"] == "conclude"
    assert paid(room, room.tenant) == PRICE + (REDRAW + PANEL // 2) * FEE
    assert paid(room, room.owner) == PRICE * 99 // 100


def test_withheld_result__decided_and_nobody_fined(room: Courtroom) -> None:
    job = room.attested(LIE)
    room.dispute(job)
    room.draw(job)
    room.vote(job, Opinion(Vote.WITHHELD), {})
    room.pass_phase(job)
    claimed = room.stranger.json("dispute", "claim", room.name(job))
    assert not any("fined" in line for line in claimed["lines"])
    assert room.stranger.json("dispute", "status", room.name(job))["ruling"] == "withheld"


def test_silent_juror__fined_and_said_so(room: Courtroom) -> None:
    job = room.attested(LIE)
    room.dispute(job)
    room.draw(job)
    places = room.read(job).current.places
    silent = min(places, key=lambda place: place.votes)
    if 2 * silent.votes >= PANEL:
        pytest.skip("one juror has the whole jury")
    room.vote(job, wrong(job), {silent.number: None})
    room.pass_phase(job)
    claimed = room.stranger.json("dispute", "claim", room.name(job))
    assert f"juror {silent.juror} is fined" in " ".join(claimed["lines"])


# ---------------------------------------------------------------------- what cannot be disputed


def test_open__who_and_what_and_when__each_refusal_has_its_code(room: Courtroom) -> None:
    def refused(name: str, person: Person = room.tenant) -> tuple[str, str]:
        return person.fails(Exit.REFUSED, "dispute", "open", name)

    trusted = room.trusted(LIE)
    code, said = refused(room.name(trusted))
    assert code == "not_judged" and "--judged court" in said
    waiting = room.accepted()
    code, said = refused("0x" + waiting.job.hex())
    assert code == "not_open" and "is assigned" in said
    code, said = room.stranger.fails(Exit.REFUSED, "dispute", "status", "0x" + waiting.job.hex())
    assert code == "not_disputed" and "is assigned: nothing to dispute yet" in said
    job = room.attested(LIE)
    code, said = refused(room.name(job), room.stranger)
    assert code == "not_requester" and room.tenant.address in said
    room.dispute(job)
    code, said = refused(room.name(job))
    assert code == "not_open" and "disputed already" in said
    late = room.attested(LIE)
    room.anvil.increase_time(10 * 60 + 1)
    code, said = refused(room.name(late))
    assert code == "time_over" and "challenge window" in said


@pytest.mark.parametrize("place", ["file", "file/below", "n" * 300])
def test_open__result_that_cannot_be_kept_here__no_bond_is_paid(
    room: Courtroom, tmp_path: Path, place: str
) -> None:
    """That it cannot be written here is not the provider's fault: it is not withheld."""
    (tmp_path / "file").write_text("mine")
    job = room.attested(LIE)
    line = ("dispute", "open", room.name(job), "--output", str(tmp_path / place))
    code, said = room.tenant.fails(Exit.INPUT, *line)
    assert code == "input_invalid" and said.startswith("--output: ")


def test_open__evidence_and_a_result_that_is_here_already(room: Courtroom, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.mkdir()
    (result / "out").write_bytes(b"what I was given")
    said = tmp_path / "why.txt"
    said.write_text("the third number is odd")
    job = room.attested(manifest(result))
    line = ("dispute", "open", room.name(job), "--output", str(result), "--evidence", str(said))
    with room.anvil.isolated():
        opened = room.tenant.json(*line)
        assert opened["served"] is True
        (event,) = [room.find(job.job).disputed]
        assert event is not None and opened["evidence"] == "0x" + event.evidence.hex()
    (result / "out").write_bytes(b"something else")
    opened = room.tenant.json(*line)
    assert opened["served"] is False and "not the attested result" in opened["notes"][0]


# ---------------------------------------------------------------------- provable faults


def test_convict__two_results__by_anyone(room: Courtroom, tmp_path: Path) -> None:
    job = room.attested(TRUTH)
    spec = job.terms.order.spec
    file = tmp_path / "said.json"
    other = room.signed(job.job, spec, LIE, room.operator)
    file.write_text(json.dumps({"status": "attested", "attestation": other}))
    done = room.stranger.json("dispute", "convict", room.name(job), "--first", str(file))
    assert done["done"] == "convict"
    assert paid(room, room.tenant) == PRICE
    assert credits_of(room.market, room.stranger.address).stake > 0  # the bounty
    assert room.find(job.job).outcome == "refunded"


def test_convict__before_an_attestation__two_files_or_another_specification(
    room: Courtroom, tmp_path: Path
) -> None:
    waiting = room.accepted(judged=Judged.TRUSTED)
    job = room.find(waiting.job)
    spec = job.terms.order.spec
    files = []
    for number, result in enumerate((TRUTH, LIE)):
        files.append(tmp_path / f"{number}.json")
        signed = room.signed(job.job, spec, result, room.operator)
        files[-1].write_text(json.dumps(signed))
    line = ("dispute", "convict", room.name(job), "--first", str(files[0]))
    code, said = room.stranger.fails(Exit.REFUSED, *line)
    assert code == "no_fault" and "pass a second attestation" in said
    code, said = room.stranger.fails(Exit.REFUSED, *line, "--second", str(files[0]))
    assert code == "no_fault" and "same result" in said
    with room.anvil.isolated():
        room.stranger.json(*line, "--second", str(files[1]))
        assert paid(room, room.tenant) == PRICE
    strange = room.signed(job.job, b"\x09" * 32, TRUTH, room.operator)
    files[0].write_text(json.dumps(strange))
    room.stranger.json(*line)
    assert paid(room, room.tenant) == PRICE


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "0x00"},
        {"result": "0x12"},
        {"started": "soon"},
        {"finished": True},
        {"receipt": None},
        {"attestation": []},
        {"spec": 7},
    ],
)
def test_convict__file_that_is_no_attestation__one_line(
    change: dict[str, Any], room: Courtroom, tmp_path: Path
) -> None:
    job = room.attested(TRUTH)
    file = tmp_path / "said.json"
    said = room.signed(job.job, job.terms.order.spec, LIE, room.operator)
    file.write_text(json.dumps({**said, **change}))
    line = ("dispute", "convict", room.name(job), "--first", str(file))
    if change == {"attestation": []}:  # then the document itself counts
        room.stranger.json(*line)
        return
    code, shown = room.stranger.fails(Exit.INPUT, *line)
    assert code == "input_invalid" and "not a signed attestation" in shown
    file.write_text("[1, 2")
    assert room.stranger.fails(Exit.INPUT, *line)[0] == "input_invalid"
    code, shown = room.stranger.fails(Exit.INPUT, *line[:-1], str(tmp_path / "absent"))
    assert code == "input_invalid" and "cannot read" in shown


def test_convict__signed_by_another__no_fault(room: Courtroom, tmp_path: Path) -> None:
    job = room.attested(TRUTH)
    file = tmp_path / "said.json"
    forged = room.signed(job.job, job.terms.order.spec, LIE, Account.create())
    file.write_text(json.dumps(forged))
    line = ("dispute", "convict", room.name(job), "--first", str(file))
    code, said = room.stranger.fails(Exit.REFUSED, *line)
    assert code == "no_fault" and "that key was not the operator" in said
