# SPDX-License-Identifier: Apache-2.0
"""The logprobs of an answer as a fingerprint of the weights, and how far two of them are apart.

Two hosts of one model that get one prompt compute the same distribution of the first token. They
do so for each further token while the tokens before it are the same. So two answers are
compared position by position up to and including the first at which their tokens differ.

Honest hosts differ a little: kernels, batch sizes and thread counts change the order of sums.
Other weights differ by more. docs/model-identity.md has both as measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

#: Positions of an answer that are kept. More tell little: they depend on those before.
POSITIONS = 32
#: Alternatives per position that are kept; the most that the API gives.
ALTERNATIVES = 20
#: The lowest logprob, in nats. Servers write such things as -9999 for impossible tokens.
FLOOR = -30.0
#: Bytes of a token that are kept. Two longer ones with this beginning count as the same.
TOKEN_BYTES = 128


@dataclass(frozen=True)
class Position:
    """One token of an answer: what it was, and the likeliest tokens with their logprobs in nats."""

    token: bytes
    likely: Mapping[bytes, float]


@dataclass(frozen=True)
class Fingerprint:
    """The first positions of an answer, and the number of tokens that came with logprobs."""

    positions: tuple[Position, ...]
    tokens: int


@dataclass(frozen=True)
class Likeness:
    """How two fingerprints compare.

    Args:
        distance: the median over the compared positions, in nats.
        positions: how many were compared.
        parted: whether the answers then chose different tokens.
    """

    distance: float
    positions: int
    parted: bool


def read_logprobs(entries: Sequence[Any]) -> Fingerprint | None:
    """The fingerprint in `choices[0].logprobs.content` of a chat answer, its chunks joined.

    Hosts are strangers. Whatever is not of the form is None, as if there were no logprobs: a host
    gains nothing by it, since it is then compared by its words.
    """
    positions = []
    for entry in entries[:POSITIONS]:
        position = _position(entry)
        if position is None:
            return None
        positions.append(position)
    return Fingerprint(tuple(positions), len(entries)) if positions else None


def _position(entry: Any) -> Position | None:
    token, own = _token(entry)
    if token is None or own is None or not isinstance(entry, Mapping):
        return None
    likely = {token: own}
    top = entry.get("top_logprobs")
    if not isinstance(top, Sequence) or isinstance(top, str | bytes) or not top:
        return None
    for each in top[:ALTERNATIVES]:
        name, value = _token(each)
        if name is None or value is None:
            return None
        likely[name] = value
    return Position(token, likely)


def _token(entry: Any) -> tuple[bytes | None, float | None]:
    """The bytes of a token, and its logprob."""
    if not isinstance(entry, Mapping):
        return None, None
    value, raw, text = entry.get("logprob"), entry.get("bytes"), entry.get("token")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, None
    # Bounds come before `float`, which an integer of a thousand digits breaks.
    if not value <= 1e-3:
        return None, None
    logprob = FLOOR if value < FLOOR else float(value)
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        part = raw[:TOKEN_BYTES]
        if not all(type(each) is int and 0 <= each < 256 for each in part):
            return None, None
        return bytes(part), logprob
    if isinstance(text, str):
        return text[:TOKEN_BYTES].encode("utf-8", "surrogatepass")[:TOKEN_BYTES], logprob
    return None, None


def likeness(one: Fingerprint, other: Fingerprint) -> Likeness | None:
    """How two fingerprints of one prompt compare; None if there is not one position in common."""
    distances, parted = [], False
    for mine, theirs in zip(one.positions, other.positions, strict=False):
        distances.append(_distance(mine.likely, theirs.likely))
        if mine.token != theirs.token:
            parted = True
            break
    return Likeness(median(distances), len(distances), parted) if distances else None


def _distance(one: Mapping[bytes, float], other: Mapping[bytes, float]) -> float:
    """The mean difference of logprobs over the tokens that either names, in nats.

    A token that one does not name has at most the least logprob that it names. So the
    difference is at least the other's logprob less that.
    """
    least_one, least_other = min(one.values()), min(other.values())
    total = 0.0
    names = one.keys() | other.keys()
    for name in names:
        mine, theirs = one.get(name), other.get(name)
        if mine is not None and theirs is not None:
            total += abs(mine - theirs)
        elif mine is not None:
            total += max(0.0, mine - least_other)
        elif theirs is not None:
            total += max(0.0, theirs - least_one)
    return total / len(names)
