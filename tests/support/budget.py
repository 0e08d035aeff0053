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


def deep() -> bool:
    """Whether everything is asked for."""
    return DEEP in os.environ


def of(part: int, whole: int) -> int:
    """How many examples a test tries."""
    return whole if deep() else part


def every(step: int, cases: Sequence[Case]) -> list[Case]:
    """Every `step`-th case, the first among them."""
    return list(cases if deep() else cases[::step])
