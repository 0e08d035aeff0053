# SPDX-License-Identifier: Apache-2.0
"""How jobs end, told from a digest alone."""

from __future__ import annotations

import json

import pytest

from provider_agent.runners.base import Reason
from teraproof.protocol import outcome
from teraproof.protocol.digests import Origin, result_digest
from teraproof.protocol.jobspec import canonical
from teraproof.protocol.outcome import Ending, Outcome
from teraproof.protocol.terms import Status

ORIGIN = Origin(b"\x05" * 32, "0x" + "0e" * 20)


def test_reasons__each_has_an_outcome_and_the_provider_s_are_never_attested() -> None:
    known = {*outcome._FAILED, *outcome._PROVIDER, outcome._TIMEOUT}
    assert known == {reason.value for reason in Reason}
    for reason in Reason:
        fault = Ending(reason.value, 1).outcome is Outcome.PROVIDER_FAULT
        assert fault is reason.provider_fault


@pytest.mark.parametrize(
    ("ending", "wanted", "shown"),
    [
        (Ending("exited", 0), Outcome.SUCCEEDED, "succeeded"),
        (Ending("exited", 1), Outcome.FAILED, "failed (exit code 1)"),
        (Ending("exited", 137), Outcome.FAILED, "failed (exit code 137)"),
        (Ending("memory", None), Outcome.FAILED, "failed (memory)"),
        (Ending("outputs", 0), Outcome.FAILED, "failed (outputs)"),
        (Ending("timeout", None), Outcome.TIMED_OUT, "timed out"),
        (Ending("machine", None), Outcome.PROVIDER_FAULT, "provider fault"),
    ],
)
def test_ending__outcome_and_words(ending: Ending, wanted: Outcome, shown: str) -> None:
    assert (ending.outcome, str(ending)) == (wanted, shown)


@pytest.mark.parametrize("reason", [r for r in Reason if not r.provider_fault])
@pytest.mark.parametrize("code", [None, 0, 1, 127, 255])
def test_of_result__failure__found_by_its_digest(reason: Reason, code: int | None) -> None:
    ending = Ending(reason.value, code)
    found = outcome.of_result(result_digest(ending.failure_manifest(), ORIGIN), ORIGIN)
    assert found == (None if ending.outcome is Outcome.SUCCEEDED else ending)
    # As the agent writes it: RFC 8785.
    assert ending.failure() == canonical({"exit_code": code, "reason": reason.value})
    assert json.loads(ending.failure())["exit_code"] == code


def test_of_result__any_other_digest__not_told_by_the_chain() -> None:
    assert outcome.of_result(bytes(32), ORIGIN) is None


def test_failure__outputs_that_are_not_kept__listed() -> None:
    unfit = (("out/x", "is a pipe"), ("out/y", "leads nowhere"))
    said = json.loads(Ending("outputs", 0).failure(unfit))
    assert said == {
        "exit_code": 0,
        "reason": "outputs",
        "unfit": [
            {"path": "out/x", "reason": "is a pipe"},
            {"path": "out/y", "reason": "leads nowhere"},
        ],
    }


def test_by_status__ends_without_a_result_that_counts() -> None:
    found = {status: outcome.by_status(status) for status in Status}
    assert found[Status.EXPIRED] is Outcome.EXPIRED
    assert found[Status.CANCELLED] is Outcome.CANCELLED
    assert found[Status.REFUSED] is Outcome.REFUSED
    assert {found[status] for status in (Status.OPEN, Status.ATTESTED, Status.SETTLED)} == {None}
