# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of a parametrised test at the same time: they wait more than they work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

WORKERS = 8


@contextlib.contextmanager
def together(
    request: pytest.FixtureRequest, test: str, run: Callable[[str], None], workers: int = WORKERS
) -> Iterator[dict[str, Future[None]]]:
    """The outcomes of all selected cases of `test`, by their parameter `case`."""
    cases = [
        str(item.callspec.params["case"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test
    ]
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield {case: pool.submit(run, case) for case in cases}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
