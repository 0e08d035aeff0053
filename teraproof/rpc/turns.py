# SPDX-License-Identifier: Apache-2.0
"""Endpoints asked one after the other: who is free first, and nobody longer than it has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from teraproof.rpc.endpoint import Endpoint, Haste
from teraproof.rpc.errors import BudgetSpent, ChainError

_Answer = TypeVar("_Answer")


def in_turn(
    endpoints: Sequence[Endpoint],
    ask: Callable[[Endpoint, Haste], _Answer],
    again: Callable[[], Sequence[Endpoint]] = tuple,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Endpoint, Haste, _Answer | ChainError]]:
    """What endpoints answer, one after the other, and in what haste each was asked. Those that have
    to wait for our budget come last; then those that are to be asked `again`. Neither is
    asked once there is `enough`.
    """
    late: list[Endpoint] = []
    answered = False

    def one(endpoint: Endpoint, haste: Haste) -> tuple[Endpoint, Haste, _Answer | ChainError]:
        nonlocal answered
        try:
            answer = ask(endpoint, haste)
        except ChainError as error:
            return endpoint, haste, error
        answered = True
        return endpoint, haste, answer

    for left, endpoint in counted(endpoints):
        told = one(endpoint, Haste.MOST if left or answered or late else Haste.NONE)
        if told[1] is Haste.MOST and isinstance(told[2], BudgetSpent):
            late.append(endpoint)
        else:
            yield told
    for left, endpoint in counted([*late, *again()]):
        if enough():
            return
        yield one(endpoint, Haste.SOME if left or answered else Haste.NONE)


def counted(endpoints: Sequence[Endpoint]) -> Iterator[tuple[int, Endpoint]]:
    """Each, after the number of those that come after it."""
    return zip(range(len(endpoints) - 1, -1, -1), endpoints, strict=True)
