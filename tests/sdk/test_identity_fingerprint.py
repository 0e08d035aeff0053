# SPDX-License-Identifier: Apache-2.0
"""Logprobs of strangers are read within bounds, and compared over what two answers share."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teraproof.gateway.identity import fingerprint, read_logprobs
from teraproof.gateway.identity.answers import has_content
from teraproof.gateway.identity.fingerprint import likeness
from tests.sdk.answers import entries

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["token", "bytes", "logprob", "top_logprobs", "delta", "content", "text"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def entry(token: str, *top: tuple[str, float]) -> dict[str, Any]:
    likely = [{"token": name, "logprob": value} for name, value in top]
    return {"token": token, "logprob": dict(top)[token], "top_logprobs": likely}


def near(*values: dict[str, Any]) -> fingerprint.Fingerprint:
    found = read_logprobs(values)
    assert found is not None
    return found


@given(st.lists(json_values, max_size=6))
def test_whatever_a_host_sends__is_read_or_left_out(values: list[Any]) -> None:
    found = read_logprobs(values)
    if found is not None:
        assert found.tokens == len(values)
        for each in found.positions:
            assert all(fingerprint.FLOOR <= value <= 1e-3 for value in each.likely.values())


@pytest.mark.parametrize(
    "change",
    [
        {"logprob": math.nan},
        {"logprob": 0.5},
        {"logprob": 10**400},
        {"logprob": True},
        {"logprob": "-1"},
        {"bytes": [256]},
        {"bytes": [True]},
        {"bytes": None, "token": 7},
        {"top_logprobs": []},
        {"top_logprobs": None},
        {"top_logprobs": [{"token": "a"}]},
    ],
)
def test_malformed_entry__as_if_there_were_no_logprobs(change: dict[str, Any]) -> None:
    whole = {"bytes": [97], **entry("a", ("a", -0.1), ("b", -2.0))}
    assert read_logprobs([whole]) is not None
    assert read_logprobs([{**whole, **change}]) is None


def test_number_without_bound__is_the_floor() -> None:
    found = near({**entry("a", ("a", -0.1), ("b", -2.0)), "logprob": -(10**400)})
    assert found.positions[0].likely[b"a"] == -0.1
    found = near(entry("a", ("a", -0.1), ("b", -(10**400))))
    assert found.positions[0].likely[b"b"] == fingerprint.FLOOR


def test_no_entries__no_fingerprint() -> None:
    assert read_logprobs([]) is None


def test_long_answer__kept_within_bounds() -> None:
    top = [(f"{number}", -float(number)) for number in range(100)]
    long = {**entry("0", *top), "token": "x" * 1000, "logprob": -math.inf}
    found = near(*[long] * 100)
    assert (len(found.positions), found.tokens) == (fingerprint.POSITIONS, 100)
    assert len(found.positions[0].token) == fingerprint.TOKEN_BYTES
    assert len(found.positions[0].likely) <= fingerprint.ALTERNATIVES + 1
    assert min(found.positions[0].likely.values()) == fingerprint.FLOOR


def test_same_answers__distance_zero_however_written() -> None:
    values = entries(random.Random(1), random.Random(2), 0.1)
    again = json.loads(json.dumps(values))
    for each in again:
        for one in (each, *each["top_logprobs"]):
            del one["bytes"]  # servers that send no bytes
        each["top_logprobs"].reverse()
    found = likeness(near(*values), near(*again))
    assert found == fingerprint.Likeness(0.0, 16, False)


def test_answers_that_part__compared_up_to_there() -> None:
    one = near(entry("a", ("a", -0.5), ("b", -1.0)), entry("c", ("c", -0.1), ("d", -3.0)))
    other = near(entry("b", ("a", -0.9), ("b", -0.6)), entry("x", ("x", -0.1), ("y", -9.0)))
    found = likeness(one, other)
    assert found is not None and (found.positions, found.parted) == (1, True)
    assert found.distance == pytest.approx(0.4)


def test_token_that_one_does_not_name__counts_by_its_bound() -> None:
    one = near(entry("a", ("a", -0.5), ("b", -2.0)))
    other = near(entry("a", ("a", -0.5), ("c", -3.0)))
    found = likeness(one, other)
    # a: 0. b is at most -3 there: 1. c is at most -2 here, and may be the same.
    assert found is not None and found.distance == pytest.approx(1 / 3)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_likeness__is_the_same_from_both_sides(seed: int, noise: int) -> None:
    one = near(*entries(random.Random(seed), random.Random(noise), 0.3))
    other = near(*entries(random.Random(seed), random.Random(noise + 1), 0.3))
    assert likeness(one, other) == likeness(other, one)


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"content": None}, False),
        ({}, False),
        ({"content": "x"}, True),
        ({"reasoning_content": "x"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
    ],
)
def test_first_content__not_a_role_and_not_an_empty_text(delta: Any, content: bool) -> None:
    assert has_content({"choices": [{"delta": delta}]}) is content
    assert has_content({"choices": [{"text": delta.get("content")}]}) is (
        delta.get("content") == "x"
    )


@given(json_values)
def test_first_content__whatever_a_host_sends(value: Any) -> None:
    assert has_content(value) in (True, False)
    assert has_content({"choices": value}) in (True, False)
