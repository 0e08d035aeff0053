# SPDX-License-Identifier: Apache-2.0
"""The challenge's door over HTTP: a tenant's client, a real server, a worker process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from provider_agent.http.app import create_app
from provider_agent.http.routes.acceptance import AcceptanceRoutes
from provider_agent.prover.acceptance.desk import Desk, DeskLimits, Place
from teraproof.acceptance import messages
from teraproof.acceptance.checks import Promise, Reason
from teraproof.acceptance.examiner import Subject, examine
from teraproof.acceptance.format import BLOCK_BYTES, Work
from teraproof.acceptance.messages import Step
from teraproof.client.acceptance import ChallengedLease
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.errors import Code, WireError
from tests.agent.acceptance.rig import SHAPE, lease
from tests.agent.api_rig import STRANGER, TENANT, Rig, code_of, http, serve

WORK = Work(SHAPE, rounds=3, devices=1, blocks=16, sweeps=2, seconds=120)
# Any machine has that: what is shown here is the way, not the speed.
PROMISE = Promise(score=1000, memory=16 * BLOCK_BYTES, bandwidth=1)
NONCE = b"\x01" * 32
ODD = messages.work_to_json(WORK).replace("256", "257")


@dataclass
class LeaseRig(Rig):
    """An API with the challenge's door alone; `hold` is how long a request waits."""

    places: dict[bytes, Place] = field(default_factory=dict)
    challenges: Desk = field(default_factory=lambda: Desk(DeskLimits(pause=0)))
    hold: float = 0.2

    def app(self) -> ASGIApp:
        """See `Rig`."""
        return create_app(
            self.deps(),
            [
                lambda door: AcceptanceRoutes(
                    self.challenges, self.places.get, door, self.limits, self.hold
                ).operations()
            ],
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[LeaseRig]:
    made = LeaseRig(tmp_path)
    one = lease()
    made.places[one.id] = Place(one, TENANT.address, ("cpu",), 1 << 20)
    with serve(made):
        yield made
    made.challenges.close()


def test_challenge__over_http__passes(rig: LeaseRig) -> None:
    with rig.client() as client:
        subject = Subject(lease(), WORK, PROMISE, client.challenged(lease().id))
        (verdict,) = examine([subject])
    assert verdict.passed, verdict.line
    assert verdict.score > 0


def test_promise_of_a_thousand_times_as_much__too_slow(rig: LeaseRig) -> None:
    greedy = replace(PROMISE, score=10**18, memory=0)
    with rig.client() as client:
        work = replace(WORK, blocks=0)
        subject = Subject(lease(), work, greedy, client.challenged(lease().id))
        (verdict,) = examine([subject])
    assert verdict.reason is Reason.TOO_SLOW


@pytest.mark.parametrize(
    ("account", "number", "code"),
    [(STRANGER, 7, Code.NOT_TENANT), (TENANT, 8, Code.LEASE_UNKNOWN)],
)
def test_not_a_lease_of_the_account__refused(
    rig: LeaseRig, account: Any, number: int, code: Code
) -> None:
    with rig.client(account) as client, pytest.raises(RemoteError) as caught:
        client.challenged(lease(number).id).step(Step.FILL, NONCE, WORK)
    assert caught.value.code is code
    assert rig.challenges.progress(lease().id)[0] is None


def test_without_a_session__refused(rig: LeaseRig) -> None:
    for method in ("GET", "POST"):
        answer = http.request(method, f"{rig.url}/v1/leases/0x{lease().id.hex()}/challenge")
        assert code_of(answer) is Code.SESSION_REQUIRED


@pytest.mark.parametrize(
    ("path", "body", "code", "where"),
    [
        ("0x12", {}, Code.FIELD_INVALID, "lease_id"),
        ("", {"step": "begin"}, Code.FIELD_INVALID, "step"),
        ("", {"nonce": "12"}, Code.FIELD_INVALID, "nonce"),
        ("", {"nonce": "G" * 64}, Code.FIELD_INVALID, "nonce"),
        ("", {"work": "{}"}, Code.FIELD_INVALID, "work"),
        (
            "",
            {"work": messages.work_to_json(WORK).replace("256", "257")},
            Code.FIELD_INVALID,
            "work",
        ),
        ("", {"step": "work"}, Code.CHALLENGE_UNKNOWN, None),
        ("", {"step": "open"}, Code.CHALLENGE_UNKNOWN, None),
        ("", {"other": "1"}, Code.BODY_INVALID, None),
        (
            "",
            {"work": messages.work_to_json(replace(WORK, devices=2))},
            Code.LIMIT_EXCEEDED,
            "devices",
        ),
    ],
)
def test_bad_request__one_line_and_its_code(
    rig: LeaseRig, path: str, body: dict[str, str], code: Code, where: str | None
) -> None:
    whole = {"step": "fill", "nonce": NONCE.hex(), "work": messages.work_to_json(WORK), **body}
    with rig.client() as client:
        place = path or f"0x{lease().id.hex()}"
        with pytest.raises(RemoteError) as caught:
            client._http.json("POST", f"/v1/leases/{place}/challenge", whole)
    assert caught.value.code is code
    assert caught.value.details.get("field") == where
    assert "\n" not in str(caught.value)
    assert rig.challenges.progress(lease().id)[0] is None


def test_progress__is_shown(rig: LeaseRig) -> None:
    path = f"/v1/leases/0x{lease().id.hex()}/challenge"
    with rig.client() as client:
        assert client._http.json("GET", path) == {"done": False, "progress": 0.0}
        client.challenged(lease().id).step(Step.FILL, NONCE, WORK)
        assert client._http.json("GET", path) == {"step": "fill", "done": True, "progress": 1.0}


class Stub:
    """A transport that answers with what the test says, and counts."""

    base_url = "http://provider"

    def __init__(self, *answers: dict[str, Any] | Code) -> None:
        self.answers, self.asked = list(answers), 0

    def json(self, method: str, path: str, body: Any, limit: int) -> dict[str, Any]:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Code):
            raise RemoteError(self.base_url, WireError(found, "no", found.retryable, {}))
        return found


@pytest.mark.parametrize("answer", [None, 1, [], "text"])
def test_client__done_without_an_answer__malformed(answer: Any) -> None:
    stub: Any = Stub({"done": True, "answer": answer})
    with pytest.raises(LocalError) as caught:
        ChallengedLease(stub, b"\7" * 32).step(Step.WORK, NONCE, WORK)
    assert caught.value.code is Code.ANSWER_INVALID


@pytest.mark.parametrize("answer", [{}, {"done": False}, {"done": 1}, {"done": "true"}])
def test_client__never_done__gives_up_in_time(answer: dict[str, Any]) -> None:
    now = iter(range(0, 10_000, 50))
    stub: Any = Stub(answer)
    one = ChallengedLease(stub, b"\7" * 32, clock=lambda: float(next(now)))
    with pytest.raises(LocalError, match="within 120 s") as caught:
        one.step(Step.WORK, NONCE, WORK)
    assert caught.value.code is Code.AGENT_UNREACHABLE
    assert stub.asked == 3


@pytest.mark.parametrize("code", [Code.RATE_LIMITED, Code.SERVER_BUSY])
def test_client__a_crowd_at_the_door__comes_again_after_a_pause(code: Code) -> None:
    slept: list[float] = []
    stub: Any = Stub(code, code, {"done": True, "answer": {"commitments": []}})
    one = ChallengedLease(stub, b"\7" * 32, sleep=slept.append)
    assert one.step(Step.WORK, NONCE, WORK) == {"commitments": []}
    assert len(slept) == 2 and stub.asked == 3


@pytest.mark.parametrize("code", [Code.RATE_LIMITED, Code.SERVER_BUSY])
def test_client__a_crowd_that_stays__the_agents_own_error_in_time(code: Code) -> None:
    now = iter(range(0, 10_000, 50))
    stub: Any = Stub(code)
    one = ChallengedLease(
        stub, b"\7" * 32, clock=lambda: float(next(now)), sleep=lambda seconds: None
    )
    with pytest.raises(RemoteError) as caught:
        one.step(Step.WORK, NONCE, WORK)
    assert caught.value.code is code and stub.asked == 3


@pytest.mark.parametrize("code", [Code.CHALLENGE_BUSY, Code.CHALLENGE_FAILED, Code.NOT_TENANT])
def test_client__any_other_refusal__said_at_once(code: Code) -> None:
    stub: Any = Stub(code)
    with pytest.raises(RemoteError) as caught:
        ChallengedLease(stub, b"\7" * 32).step(Step.FILL, NONCE, WORK)
    assert caught.value.code is code and stub.asked == 1
