# SPDX-License-Identifier: Apache-2.0
"""What a tenant says of a result: its jurors take it in, in their time, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.modules.disputes.hearing import Awaited, Hearing
from teraproof.contracts.jobs import Disputed
from teraproof.courts.docket import Phase
from teraproof.protocol.dispute import EVIDENCE_BYTES
from teraproof.protocol.errors import Code
from tests.agent import api_rig
from tests.agent.api_rig import JOB_ID, STRANGER, TENANT, serve
from tests.agent.disputes import duty_rig
from tests.agent.disputes.court import COMMIT, REVEAL
from tests.agent.disputes.duty_rig import JOB, LOG, NOW
from tests.agent.duty_parts import TENANT as REQUESTER
from tests.support.codes import fails_as

SAID = b"the second file should hold 42"
DIGEST = hashlib.sha256(SAID).digest()
UNTIL = 1_000


class Juror(api_rig.Rig):
    """An agent that sits in a dispute of TENANT."""

    now = UNTIL

    def sit(self) -> None:
        self.hearing = Hearing(self.root / "juror", lambda: self.now)
        self.hearing.expect(JOB_ID, Awaited(TENANT.address, DIGEST, UNTIL))

    @property
    def file(self) -> Path:
        return self.root / "juror" / JOB_ID.hex() / "evidence"

    def holds(self) -> list[str]:
        """All that lies in the juror's directory."""
        return [path.name for path in (self.root / "juror").rglob("*") if path.is_file()]


@pytest.fixture
def juror(tmp_path: Path) -> Iterator[Juror]:
    made = Juror(tmp_path)
    (tmp_path / "juror").mkdir()
    made.sit()
    with serve(made):
        yield made


def test_requester__what_the_chain_has_the_digest_of__is_kept(juror: Juror) -> None:
    with juror.client() as client:
        assert client.give_evidence(JOB_ID, SAID) is True
        assert client.give_evidence(JOB_ID, SAID) is False, "it has it already"
    assert juror.file.read_bytes() == SAID and juror.file.stat().st_mode & 0o777 == 0o600
    assert juror.holds() == ["evidence"]


@pytest.mark.parametrize("said", [b"", SAID + b"!", SAID[:-1]])
def test_something_else__refused_and_nothing_is_left(juror: Juror, said: bytes) -> None:
    with juror.client() as client, fails_as(Code.DIGEST_MISMATCH):
        client.give_evidence(JOB_ID, said)
    assert juror.holds() == []


def test_too_long__refused_before_it_is_read(juror: Juror) -> None:
    with juror.client() as client, fails_as(Code.BODY_TOO_LARGE):
        client.give_evidence(JOB_ID, bytes(EVIDENCE_BYTES + 1))
    assert juror.holds() == []


def test_stranger__other_job__time_over__nothing_expected__one_answer(juror: Juror) -> None:
    with juror.client(STRANGER) as client, fails_as(Code.NOT_DRAWN):
        client.give_evidence(JOB_ID, SAID)
    with juror.client() as client:
        with fails_as(Code.NOT_DRAWN):
            client.give_evidence(b"\x09" * 32, SAID)
        juror.now = UNTIL + 1
        with fails_as(Code.NOT_DRAWN):
            client.give_evidence(JOB_ID, SAID)
        juror.now = 0  # the chain was not seen yet
        with fails_as(Code.NOT_DRAWN):
            client.give_evidence(JOB_ID, SAID)
        juror.now = UNTIL
        juror.hearing.expect(JOB_ID, None)
        with fails_as(Code.NOT_DRAWN):
            client.give_evidence(JOB_ID, SAID)
    assert juror.holds() == []


def test_disk_is_full__said_so_and_nothing_is_left(
    juror: Juror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("provider_agent.modules.disputes.hearing.sync", full)
    with juror.client() as client, fails_as(Code.STORAGE_FULL):
        client.give_evidence(JOB_ID, SAID)
    assert juror.holds() == []


# ---------------------------------------------------------------------- who is heard


@pytest.fixture
def rig(tmp_path: Path) -> duty_rig.Rig:
    return duty_rig.Rig(tmp_path)


def disputed(rig: duty_rig.Rig, digest: bytes) -> None:
    rig.duty.consume([Disputed(LOG, JOB, rig.case.provider, digest, 50)], [])


def heard(rig: duty_rig.Rig) -> bool:
    with fails_as(Code.NOT_DRAWN):
        rig.hearing.awaited(JOB, rig.case.provider)
    try:
        return rig.hearing.awaited(JOB, REQUESTER).digest == DIGEST
    except Exception:
        return False


def test_drawn__heard_until_the_end_of_the_commits(rig: duty_rig.Rig) -> None:
    disputed(rig, DIGEST)
    rig.sit(1, 2)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    assert not heard(rig), "before it is known who sits"
    rig.cycle()
    assert heard(rig)
    rig.seen = NOW + COMMIT + 1
    assert not heard(rig), "by the clock, whatever the agent has read"
    rig.seen = NOW
    rig.sit(1, 2, committed={0: 1, 1: 1}, stage=3)
    rig.stand(Phase.REVEALING, NOW + REVEAL)
    rig.cycle()
    assert not heard(rig), "all have voted"


def test_not_drawn__nobody_is_heard(rig: duty_rig.Rig) -> None:
    disputed(rig, DIGEST)
    rig.sit(2, 3)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert not heard(rig)


def test_dispute_without_evidence__nothing_is_taken(rig: duty_rig.Rig) -> None:
    disputed(rig, bytes(32))
    rig.sit(1, 2)
    rig.stand(Phase.COMMITTING, NOW + COMMIT)
    rig.cycle()
    assert not heard(rig)


def test_event_was_lost__asked_for_once(rig: duty_rig.Rig) -> None:
    rig.jobs.told = [Disputed(LOG, JOB, rig.case.provider, DIGEST, 50)]
    rig.sit(1, 2)
    for _ in range(3):
        rig.stand(Phase.COMMITTING, NOW + COMMIT)
        rig.cycle()
    assert heard(rig) and rig.jobs.searches == 1
