# SPDX-License-Identifier: Apache-2.0
"""How much of a costly test runs: a part in `make test`, all of it in `make test-deep`.

A part is the same in each run: the first cases of the whole, or every second, third, ... of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

DEEP = "TERAPROOF_DEEP"
"""The variable that asks for everything."""
Case = TypeVar("Case")
Other = TypeVar("Other")


def deep() -> bool:
    """Whether everything is asked for."""
    return bool(os.environ.get(DEEP))


def of(part: int, whole: int) -> int:
    """How many examples a test tries."""
    return whole if deep() else part


def every(step: int, cases: Sequence[Case]) -> list[Case]:
    """Every `step`-th case, the first among them."""
    return list(cases if deep() else cases[::step])


def crossed(cases: Sequence[Case], others: Sequence[Other]) -> list[tuple[Case, Other]]:
    """Each case with one of the others in turn, or with all of them.

    The turn is shifted each time that it is over, so that no neighbour in `cases` always gets the
    same one.
    """
    if deep():
        return [(case, other) for case in cases for other in others]
    size = len(others)
    return [(case, others[(n + n // size) % size]) for n, case in enumerate(cases)]
