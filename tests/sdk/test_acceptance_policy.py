# SPDX-License-Identifier: Apache-2.0
"""How much is asked of a promise, and what a tenant does after a verdict."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from teraproof.acceptance.checks import Promise, Reason, Verdict
from teraproof.acceptance.format import BLOCK_BYTES, Lease
from teraproof.acceptance.policy import Decision, Standing, decide, is_due, plan
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import Shape, keccak

MARKET = Shape(32_768, 68)
H100 = Promise(1_500 * 10**12, 72 << 30, 10**12)
EVERY = [Standing(g, c, f) for g, c, f in product((0.0, 60.0), (False, True), range(4))]


def verdict(reason: Reason) -> Verdict:
    return Verdict(reason, "")


@pytest.mark.parametrize("standing", EVERY)
def test_passed__the_lease_goes_on(standing: Standing) -> None:
    assert decide(verdict(Reason.PASSED), standing) is Decision.KEEP


@pytest.mark.parametrize("standing", EVERY)
@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.PASSED])
def test_failed__it_ends_in_the_way_that_is_open(reason: Reason, standing: Standing) -> None:
    found = decide(verdict(reason), standing)
    may_be_the_network = reason in (Reason.NO_ANSWER, Reason.TOO_SLOW, Reason.MEMORY_SLOW)
    if may_be_the_network and standing.failures == 0:
        assert found is Decision.AGAIN
    elif standing.grace > 0 and not standing.confirmed:
        assert found is Decision.REJECT
    else:
        assert found is Decision.CLOSE


def test_plan__a_big_card__busy_for_the_time_that_is_asked() -> None:
    work = plan(H100, 1, MARKET)
    assert 8 <= H100.work_seconds(work) <= 10
    assert H100.sweep_seconds(work, work.blocks) == pytest.approx(2, rel=0.1)
    assert work.blocks * BLOCK_BYTES >= H100.memory
    assert plan(H100, 8, MARKET).rounds == pytest.approx(work.rounds / 8, abs=1)
    assert plan(H100, 1, MARKET, seconds=30).rounds == pytest.approx(3 * work.rounds, abs=3)


def test_plan__the_limits_are_the_promise() -> None:
    """Whoever is exactly as fast as the promise allows needs exactly the time that is allowed."""
    work = plan(H100, 4, MARKET)
    total = MARKET.operations * work.rounds * 4
    assert H100.work_seconds(work) == pytest.approx(total / (1_500e12 * 0.8))
    read = work.sweeps * work.blocks * BLOCK_BYTES
    assert H100.sweep_seconds(work, work.blocks) == pytest.approx(read / 1e12)


@pytest.mark.parametrize("score", [1, 10**9, 10**20])
@pytest.mark.parametrize("memory", [0, 1, BLOCK_BYTES, 10**15])
def test_plan__any_promise__within_the_bounds(score: int, memory: int) -> None:
    work = plan(Promise(score, memory, 10**11), 1, MARKET)
    assert 3 <= work.rounds <= 65_536 and 1 <= work.sweeps <= 1024
    assert (work.blocks == 0) is (memory == 0)


def test_plan__no_device__error() -> None:
    for devices in (0, 17):
        with pytest.raises(BenchmarkError, match="devices"):
            plan(H100, devices, MARKET)


# ---------------------------------------------------------------------- random times

HERE = Lease(1, "0x" + "0a" * 20, "0x" + "0b" * 20, b"\7" * 32)
BLOCK_HASHES = [keccak(n.to_bytes(4, "big")) for n in range(20_000)]


def due(lease: Lease, one_in: int = 50) -> list[int]:
    return [n for n, value in enumerate(BLOCK_HASHES) if is_due(value, lease, one_in)]


def test_due__the_same_for_all_tenants_of_a_provider() -> None:
    assert due(replace(HERE, id=b"\x08" * 32)) == due(HERE)


@pytest.mark.parametrize(
    "other",
    [{"chain_id": 2}, {"contract": "0x" + "0c" * 20}, {"provider": "0x" + "0c" * 20}],
)
def test_due__each_provider_at_times_of_its_own(other: dict[str, str]) -> None:
    ours, theirs = set(due(HERE)), set(due(replace(HERE, **other)))  # type: ignore[arg-type]
    assert len(ours & theirs) < len(ours) / 4


@pytest.mark.parametrize("one_in", [1, 10, 100])
def test_due__as_often_as_said(one_in: int) -> None:
    expected = len(BLOCK_HASHES) / one_in
    assert abs(len(due(HERE, one_in)) - expected) <= 4 * expected**0.5


def test_due__no_hash__error() -> None:
    with pytest.raises(BenchmarkError, match="32 bytes"):
        is_due(b"", HERE, 10)
