# SPDX-License-Identifier: Apache-2.0
"""A stranger's answers to an acceptance challenge: whatever they are, there is a verdict."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teraproof.acceptance import messages
from teraproof.acceptance.checks import Reason
from teraproof.acceptance.examiner import Subject, examine
from teraproof.acceptance.format import Work
from teraproof.acceptance.messages import Step
from teraproof.pog.errors import BenchmarkError
from tests.agent.acceptance.rig import (
    BLOCKS,
    NONCES,
    PROMISE,
    WORK,
    Changed,
    Clock,
    Provider,
    challenged,
    judged,
    lease,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every text in an answer: where it stands, and its key there."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            found += places(inner)
        else:
            found.append((value, key))
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_digit_changed__never_passes(honest: dict[Step, dict[str, Any]], data: Any) -> None:
    kept = copy.deepcopy(honest)
    step = data.draw(st.sampled_from([Step.WORK, Step.SWEEP, Step.OPEN]))
    where, key = data.draw(st.sampled_from(places(kept[step])))
    text = where[key]
    at = data.draw(st.integers(0, len(text) - 1))
    digit = data.draw(st.sampled_from([c for c in "0123456789abcdef" if c != text[at]]))
    where[key] = text[:at] + digit + text[at + 1 :]
    assert not judged(kept).passed


def test_a_digest_of_another_block_in_the_leaf__no_matter(
    honest: dict[Step, dict[str, Any]],
) -> None:
    """The leaf is in the root, so no byte of it can be another one."""
    kept = copy.deepcopy(honest)
    (opened,) = kept[Step.OPEN]["openings"]
    opened["digests"][0], opened["digests"][1] = opened["digests"][1], opened["digests"][0]
    # Both may lie in the same leaf of the same sweep; then nothing was changed.
    same = opened["digests"][0] == opened["digests"][1]
    assert judged(kept).passed is same


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text("0123456789abcdefXY", max_size=70),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["entries", "digests", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(step=st.sampled_from(list(Step)), value=values)
def test_any_json_for_an_answer__malformed(
    honest: dict[Step, dict[str, Any]], step: Step, value: Any
) -> None:
    (name,) = honest[step]

    class Kept:
        def step(self, asked: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
            return {name: value} if asked is step else honest[asked]

    numbers = iter(NONCES)
    subject = Subject(lease(), WORK, PROMISE, Kept())
    (verdict,) = examine([subject], nonce=lambda: next(numbers), together=Clock())
    assert verdict.reason is Reason.MALFORMED


@pytest.mark.parametrize("step", Step)
@pytest.mark.parametrize("answer", [{}, {"other": 1}])
def test_answer_without_its_member__malformed(
    engine: Any, step: Step, answer: dict[str, Any]
) -> None:
    verdict = challenged(Changed(Provider(engine, lease()), step, lambda _: answer))
    assert verdict.reason is Reason.MALFORMED


def test_more_filled_than_asked_for__malformed(engine: Any) -> None:
    verdict = challenged(
        Changed(Provider(engine, lease()), Step.FILL, lambda _: {"filled": [BLOCKS + 1]})
    )
    assert verdict.reason is Reason.MALFORMED


def test_work__json_there_and_back__and_nothing_else() -> None:
    assert messages.work_from_json(messages.work_to_json(WORK)) == WORK
    for text in ("", "[]", "{}", "1", '{"n": 256}', messages.work_to_json(WORK)[:-1] + ', "a": 1}'):
        with pytest.raises(BenchmarkError, match="expected an object"):
            messages.work_from_json(text)
    for changed in ("4.0", "true", '"4"', "null"):
        with pytest.raises(BenchmarkError, match="whole numbers"):
            messages.work_from_json(
                messages.work_to_json(WORK).replace('"rounds": 4', f'"rounds": {changed}')
            )
    assert len(messages.work_to_json(WORK)) < 512
