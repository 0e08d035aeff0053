# SPDX-License-Identifier: Apache-2.0
"""Logs of strangers: all of it once, in whole lines, and nothing that a terminal would obey."""

from __future__ import annotations

from types import SimpleNamespace, TracebackType
from typing import Any, cast

import pytest

from teraproof.errors import RemoteError
from teraproof.market import jobs, tenant, watch
from teraproof.market.jobs import Job
from teraproof.market.market import Market
from teraproof.market.signers import Signer
from teraproof.market.ui import QuietUi
from teraproof.protocol.errors import Code, WireError
from teraproof.protocol.terms import Status
from tests.support.codes import fails_as

ACCOUNT = "0x" + "11" * 20
JOB = cast(Job, SimpleNamespace(job=b"\x07" * 32, terms=SimpleNamespace(requester=ACCOUNT)))
SIGNER = cast(Signer, SimpleNamespace(address=ACCOUNT))
NOT_YET = RemoteError("agent", WireError(Code.NOT_READY, "no log yet", True, {}))


class Agent:
    """A log that grows between two looks; `answers` are pieces or errors, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.offsets = list(answers), list[int | None]()

    def __call__(self, *_: object) -> Agent:
        return self

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        pass

    def logs(self, job: bytes, offset: int | None) -> Any:
        self.offsets.append(offset)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def piece(offset: int, text: str, size: int | None = None) -> dict[str, Any]:
    end = offset + len(text.encode())
    return {"offset": offset, "next": end, "size": end if size is None else size, "text": text}


def read(
    monkeypatch: pytest.MonkeyPatch, agent: Agent, statuses: tuple[Status, ...] = (), **more: Any
) -> tuple[list[str], int]:
    left = list(statuses)
    state = SimpleNamespace(state=lambda *_: int(left.pop(0)))
    market = cast(Market, SimpleNamespace(jobs=state, chain=SimpleNamespace(chain_id=7)))
    monkeypatch.setattr(tenant, "connect", agent)
    lines: list[str] = []
    size = watch.log(
        market, SIGNER, JOB, "http://agent", lines.append, sleep=lambda _: None, **more
    )
    assert not agent.answers and not left
    return lines, size


def test_log__pieces_become_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(piece(0, "one\ntw", 12), piece(6, "o\nthree", 12), piece(13, ""))
    agent.answers[1]["size"] = 14
    lines, size = read(monkeypatch, agent)
    assert lines == ["one", "two", "three"] and size == 13
    assert agent.offsets == [0, 6, 13]


def test_log__follow__waits_for_the_first_piece_and_ends_with_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = Agent(NOT_YET, piece(0, "a\n"), piece(2, ""), piece(2, "b\n"))
    running, over = Status.ASSIGNED, Status.ATTESTED
    lines, _ = read(monkeypatch, agent, (Status.OPEN, running, running, over), follow=True)
    assert lines == ["a", "b"]


def test_log__tail__begins_where_the_agent_says(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(piece(900, "end"))
    assert read(monkeypatch, agent, tail=True) == (["end"], 3)
    assert agent.offsets == [None]


def test_log__escapes__are_shown_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = read(monkeypatch, Agent(piece(0, "\x1b[2J\x07tab\there\r\u202eé\n")))
    assert lines == ["?[2J?tab\there??é"]


def test_log__no_log_and_nobody_waits__the_agents_word(monkeypatch: pytest.MonkeyPatch) -> None:
    with fails_as(Code.NOT_READY):
        read(monkeypatch, Agent(NOT_YET))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"offset": 0, "next": "1", "size": 1, "text": "x"},
        {"offset": 0, "next": 1, "size": 1, "text": 7},
        {"offset": 5, "next": 1, "size": 9, "text": "x"},
        {"offset": 0, "next": 0, "size": 9, "text": ""},  # would be asked without end
        {"offset": 0, "next": True, "size": 9, "text": ""},
    ],
)
def test_log__malformed__one_error(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    with fails_as(Code.ANSWER_INVALID):
        read(monkeypatch, Agent(answer))


def test_log__of_another_account__nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent()
    monkeypatch.setattr(tenant, "connect", agent)
    other = cast(Signer, SimpleNamespace(address="0x" + "22" * 20))
    with fails_as(Code.NOT_REQUESTER):
        watch.log(cast(Market, None), other, JOB, "http://agent", lambda _: None)
    assert agent.offsets == []


class Waiting:
    """A job whose status is looked at again and again while a clock goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statuses: Status, taken: bool) -> None:
        self.left, self.second, self.ui = list(statuses), 0.0, QuietUi()
        found = SimpleNamespace(accepted=object() if taken else None)
        monkeypatch.setattr(jobs, "find", lambda *_: found)
        monkeypatch.setattr(jobs, "open_until", lambda *_: 1_100)
        monkeypatch.setattr(jobs, "deadline", lambda *_: 2_000)
        state = SimpleNamespace(state=self._state)
        chain = SimpleNamespace(poll_seconds=10.0)
        self.market = cast(Market, SimpleNamespace(jobs=state, chain=chain, now=lambda: 1_000))

    def _state(self, *_: object) -> int:
        return int(self.left.pop(0) if len(self.left) > 1 else self.left[0])

    def sleep(self, seconds: float) -> None:
        self.second += seconds
        assert self.second < 10_000, "it waits without end"

    def wait(self, seconds: float | None = None) -> None:
        watch.wait(
            self.market,
            self.ui,
            JOB,
            seconds=seconds,
            clock=lambda: self.second,
            sleep=self.sleep,
        )


@pytest.mark.parametrize(
    ("status", "until", "instead"),
    [
        (Status.OPEN, "1970-01-01 00:18:20", "job cancel"),
        (Status.ASSIGNED, "1970-01-01 00:33:20", "job expire"),
    ],
)
def test_wait__nothing_can_come_any_more__ends_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, status: Status, until: str, instead: str
) -> None:
    """The agent is dead, and the chain makes no blocks: the deadline passes all the same."""
    waiting = Waiting(monkeypatch, status, taken=status is Status.ASSIGNED)
    with fails_as(Code.JOB_FAILED) as caught:
        waiting.wait()
    assert until in waiting.ui.lines[0]  # named from the beginning
    assert until in str(caught.value) and instead in str(caught.value)
    assert caught.value.details["status"] == status.name.lower()


def test_wait__gives_up_before__the_deadline_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, Status.OPEN, Status.ASSIGNED, taken=True)
    with fails_as(Code.NOT_READY) as caught:
        waiting.wait(seconds=50)
    assert "is still assigned: its result can come until 1970-01-01 00:33:20" in str(caught.value)
    assert waiting.second < 100
