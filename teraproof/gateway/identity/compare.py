# SPDX-License-Identifier: Apache-2.0
"""What two answers to one request show about two hosts, as yes-or-no observations.

Each kind has a rule: how often it happens between honest hosts at most, and how often where
something is wrong. The numbers were measured with a real model: docs/model-identity.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from teraproof.gateway.identity.answers import Answer
from teraproof.gateway.identity.fingerprint import likeness
from teraproof.gateway.identity.watch import Rule

#: The median difference of logprobs, in nats, above which a canary is a hit.
TOLERANCE = 0.2
#: Characters of greedy answers that are compared where a host gives no logprobs.
OPENING = 24
#: Greedy answers that end at least this part short of the other one are cut.
CUT = 0.9
#: Tokens of a prompt that the templates of two hosts may differ by, and the part of it.
TEMPLATE, TEMPLATE_PART = 16, 0.02


class Kind(StrEnum):
    """What is compared between two hosts."""

    WEIGHTS = "weights"  # logprobs of the same positions are apart
    WORDS = "words"  # greedy answers begin differently
    CUT = "cut"  # a greedy answer stops where the other goes on
    SHORTER = "shorter"  # an answer is the shorter of the two
    PROMPT = "prompt"  # the same prompt is charged as more tokens


#: The rules of each kind. SHORTER needs no figure: two answers of one distribution are each the
#: shorter one with probability 1/2 at most.
RULES = {
    Kind.WEIGHTS: Rule(honest=0.05, faulty=0.5),
    Kind.WORDS: Rule(honest=0.3, faulty=0.7),
    Kind.CUT: Rule(honest=0.1, faulty=0.5),
    Kind.SHORTER: Rule(honest=0.5, faulty=0.8),
    Kind.PROMPT: Rule(honest=0.02, faulty=0.5),
}


class Observation(NamedTuple):
    """One observation of a kind.

    Args:
        first, second: whether it is a hit against the first or the second host. For WEIGHTS and
            WORDS both are the same: such a difference does not say who is wrong.
        distance: nats, for WEIGHTS.
    """

    kind: Kind
    first: bool
    second: bool
    distance: float = 0.0


def observations(first: Answer, second: Answer) -> Iterator[Observation]:
    """What the answers of two hosts to the same request show."""
    yield from _weights(first, second)
    if first.whole and second.whole:
        if first.greedy and second.greedy:
            yield _cut(first, second)
        else:
            one, other = len(first.text), len(second.text)
            yield Observation(Kind.SHORTER, one < other, other < one)
    one, other = first.prompt_tokens, second.prompt_tokens
    yield Observation(Kind.PROMPT, _above(one, other), _above(other, one))


def _weights(first: Answer, second: Answer) -> Iterator[Observation]:
    if first.fingerprint is not None and second.fingerprint is not None:
        found = likeness(first.fingerprint, second.fingerprint)
        if found is not None:
            apart = found.distance > TOLERANCE
            yield Observation(Kind.WEIGHTS, apart, apart, found.distance)
    elif first.greedy and second.greedy and first.text and second.text:
        one, other = first.text[:OPENING], second.text[:OPENING]
        length = min(len(one), len(other))
        apart = one[:length] != other[:length]
        yield Observation(Kind.WORDS, apart, apart)


def _cut(first: Answer, second: Answer) -> Observation:
    """Whether one answer is a beginning of the other: a host that does not go on has cut it."""
    one, other = first.text, second.text
    return Observation(
        Kind.CUT,
        len(one) < CUT * len(other) and other.startswith(one),
        len(other) < CUT * len(one) and one.startswith(other),
    )


def _above(one: int, other: int) -> bool:
    return one > other + TEMPLATE + TEMPLATE_PART * other
