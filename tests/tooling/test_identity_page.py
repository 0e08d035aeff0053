# SPDX-License-Identifier: Apache-2.0
"""docs/model-identity.md: its rules are those of the code, and its figures are there."""

from __future__ import annotations

import re

import pytest

from benchmarks.models import measure
from teraproof.gateway.identity import compare, fingerprint, lineup, recount
from teraproof.gateway.identity.watch import binomial_tail

TEXT = measure.PAGE.read_text("utf-8")
PLAIN = " ".join(TEXT.split())


def table(name: str) -> str:
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", TEXT, re.DOTALL)
    assert found is not None, f"no table {name}"
    return found[1].strip()


@pytest.mark.parametrize("name", measure.fixed())
def test_table_of_rules__as_the_code_makes_it(name: str) -> None:
    assert table(name) == measure.fixed()[name]().strip()


def test_every_table__is_filled_and_made_by_the_command() -> None:
    names = re.findall(r"<!-- table: ([a-z-]+) -->", TEXT)
    assert set(names) == {*measure.fixed(), *measure.Measured.NAMES}
    for name in names:
        assert len(table(name).splitlines()) > 2, name


@pytest.mark.parametrize(
    "words",
    [
        f"Two requests in {2 / lineup.RATE:.0f} are canaries",
        f"of a host's first {lineup.NEW} requests, one in {1 / lineup.NEW_RATE:.0f}",
        f"above {compare.TOLERANCE:g} nats",
        f"the first {compare.OPENING} characters",
        f"{100 * (1 - compare.CUT):.0f} % shorter",
        f"{100 * compare.TEMPLATE_PART:.0f} % and {compare.TEMPLATE} more",
        f"{fingerprint.POSITIONS} tokens at most",
    ],
)
def test_prose__has_the_numbers_of_the_code(words: str) -> None:
    assert words in PLAIN


def test_prose__recount() -> None:
    assert f"and {100 * recount.LOOSE:.0f} % more are allowed" in PLAIN
    assert f"and {recount.SLACK} more are allowed" in PLAIN


@pytest.mark.parametrize(("hits", "trials"), [(0, 100), (3, 50), (50, 50)])
def test_exact_interval__leaves_half_of_five_percent_on_each_side(hits: int, trials: int) -> None:
    low, high = measure.exact(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    if hits:
        assert binomial_tail(trials, low, hits) == pytest.approx(0.025, abs=1e-6)
    if hits < trials:
        assert 1 - binomial_tail(trials, high, hits + 1) == pytest.approx(0.025, abs=1e-6)
