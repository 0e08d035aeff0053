# SPDX-License-Identifier: Apache-2.0
"""`teraproof dispute evidence`: to whom a tenant's file goes, and when it goes to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from teraproof.errors import LocalError
from teraproof.market import evidence
from teraproof.market.jobs import Job
from teraproof.protocol.dispute import EVIDENCE_BYTES
from teraproof.protocol.errors import Code, Exit
from tests.sdk.courtroom import Courtroom, deploy_court
from tests.support.anvil import Anvil

SAID = b"the third number is odd"


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courtroom]:
    with Anvil() as running:
        made = deploy_court(tmp_path_factory.mktemp("court"), running)
        for _ in range(6):
            made.juror(2)
        running.increase_time(made.court.period("latest"))
        yield made


@pytest.fixture
def room(court: Courtroom) -> Iterator[Courtroom]:
    with court.anvil.isolated():
        yield court


@pytest.fixture
def file(tmp_path: Path) -> Path:
    place = tmp_path / "why.txt"
    place.write_bytes(SAID)
    return place


def disputed(room: Courtroom, file: Path | None) -> Job:
    job = room.attested(b"a lie")
    more = () if file is None else ("--evidence", str(file))
    opened = room.tenant.json("dispute", "open", room.name(job), *more)
    assert (file is not None) == any("dispute evidence" in line for line in opened["notes"])
    return job


class Agents:
    """The agents of jurors as a tenant meets them: the first ones are away."""

    def __init__(self, away: int) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.away = away

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def give_evidence(self, job: bytes, data: bytes) -> bool:
        self.asked.append((job, data))
        if len(self.asked) <= self.away:
            raise LocalError("no connection to the agent", Code.AGENT_UNREACHABLE)
        return True


def test_drawn__each_juror_gets_the_file__and_who_has_it_is_said(
    room: Courtroom, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = disputed(room, file)
    room.draw(job)
    owners = {place.juror for place in room.read(job).current.places}
    agents = Agents(away=0)
    monkeypatch.setattr(evidence, "connect", lambda *_: agents)
    done = room.tenant.json("dispute", "evidence", room.name(job), str(file))
    assert agents.asked == [(job.job, SAID)] * len(owners)
    assert {one["juror"] for one in done["jurors"]} == owners
    assert all(one["has_it"] for one in done["jurors"])


def test_some_are_away__said__none_is_there__an_error(
    room: Courtroom, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = disputed(room, file)
    while len(room.read(job).current.places) < 2:
        kept = room.anvil.snapshot()
        room.draw(job)
        if len(room.read(job).current.places) < 2:
            room.anvil.revert(kept)
            room.anvil.mine()
    monkeypatch.setattr(evidence, "connect", lambda *_: Agents(away=1))  # a fresh one each time
    code, line = room.tenant.fails(
        Exit.UNAVAILABLE, "dispute", "evidence", room.name(job), str(file)
    )
    assert code == "agent_unreachable" and "no connection" in line
    some = Agents(away=1)
    monkeypatch.setattr(evidence, "connect", lambda *_: some)
    done = room.tenant.json("dispute", "evidence", room.name(job), str(file))
    assert sum(one["has_it"] for one in done["jurors"]) == len(done["jurors"]) - 1


def test_nobody_to_take_it__before_and_after_the_commits(room: Courtroom, file: Path) -> None:
    job = disputed(room, file)
    code, _ = room.tenant.fails(Exit.UNAVAILABLE, "dispute", "evidence", room.name(job), str(file))
    assert code == "not_ready"
    room.draw(job)
    room.pass_phase(job)
    code, _ = room.tenant.fails(Exit.UNAVAILABLE, "dispute", "evidence", room.name(job), str(file))
    assert code == "not_ready"


def test_other_file__too_long__no_evidence__other_account(
    room: Courtroom, file: Path, tmp_path: Path
) -> None:
    job = disputed(room, file)
    room.draw(job)
    line = ("dispute", "evidence", room.name(job))
    other = tmp_path / "other.txt"
    other.write_bytes(SAID + b"!")
    assert room.tenant.fails(Exit.FAULT, *line, str(other))[0] == "digest_mismatch"
    other.write_bytes(bytes(EVIDENCE_BYTES + 1))
    assert room.tenant.fails(Exit.INPUT, *line, str(other))[0] == "input_invalid"
    assert room.tenant.fails(Exit.INPUT, *line, str(tmp_path / "none"))[0] == "input_invalid"
    assert room.stranger.fails(Exit.REFUSED, *line, str(file))[0] == "not_requester"
    silent = disputed(room, None)
    code, said = room.tenant.fails(Exit.INPUT, "dispute", "evidence", room.name(silent), str(file))
    assert code == "input_invalid" and "without evidence" in said
