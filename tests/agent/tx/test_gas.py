# SPDX-License-Identifier: Apache-2.0
"""Gas limits of our calls, whatever nodes estimate: no call fails twice for want of gas."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak

from provider_agent.core.attempts import MAX_ATTEMPTS, Attempts
from provider_agent.store import IntentState
from provider_agent.tx import gas
from teraproof.contracts import benchmark, emissions, jobs
from tests.agent.stub_node import Result, block
from tests.agent.tx.test_prices import TARGET, Chain
from tests.support.anvil import ROOT

NEEDS = 90_000  # gas, what the call of these tests really uses
CALL = jobs.ATTEST.selector + b"\1" * 60
JOB = "ab" * 32
MEASURED = {
    "jobs_accept": (jobs.ACCEPT, jobs.ACCEPT_2),
    "jobs_attest": (jobs.ATTEST,),
    "jobs_finalize": (jobs.FINALIZE,),
    "benchmark_open_epoch": (benchmark.OPEN,),
    "benchmark_commit_replace": (benchmark.COMMIT,),
    "benchmark_draw": (benchmark.DRAW,),
    "benchmark_open_one_n256": (benchmark.OPEN_SAMPLE, benchmark.OPEN_SAMPLES),
    "benchmark_fail": (benchmark.FAIL,),
    "benchmark_settle_void": (benchmark.SETTLE,),
    "emissions_claim": (emissions.CLAIM,),
}


class Meter(Chain):
    """A chain on which a call with too low a limit fails and uses up its gas."""

    def __init__(self, folder: Path, says: int | str, **options: Any) -> None:
        self.limits: dict[bytes, int] = {}
        super().__init__(folder, **options)
        self.said["eth_estimateGas"] = lambda: Result(says if isinstance(says, str) else hex(says))
        self.attempts = Attempts(
            self.store, self.sender, "jobs", TARGET, clock=lambda: float(self.now)
        )

    def _take(self, raw: bytes) -> Any:
        answer = super()._take(raw)
        self.limits[bytes(keccak(raw))] = self.offers[-1]["gas"]
        return answer

    def _rule(self, method: str, params: list[Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            name = bytes.fromhex(params[0][2:])
            if name not in self.mined:
                return Result(None)
            limit, here = self.limits[name], block(self.head)
            return Result(
                {
                    "transactionHash": params[0],
                    "blockHash": here["hash"],
                    "blockNumber": here["number"],
                    "status": hex(limit >= NEEDS),
                    "gasUsed": hex(min(limit, NEEDS)),
                }
            )
        return super()._rule(method, params)

    def live(self, blocks: int, job: str = JOB) -> int | None:
        """Want the call and let blocks pass; in which of them it went through."""
        for number in range(blocks):
            self.attempts.begin(job, "attest", CALL)
            self.sender.tick()
            self.pass_time(12)
            self.sender.tick()
            if any(one.state is IntentState.FINAL for one in self.attempts.made(job)):
                return number
        return None


@pytest.fixture
def made() -> Iterator[list[Meter]]:
    chains: list[Meter] = []
    yield chains
    for one in chains:
        with contextlib.closing(one):
            pass


@pytest.mark.parametrize("says", [0, 21_000, 30_000, 45_000, 60_000, 70_000])
def test_low_estimate__the_call_goes_through_within_blocks(
    tmp_path: Path, made: list[Meter], says: int
) -> None:
    """Too low for the call, and possible: the promise is that a deadline of minutes is kept."""
    chain = Meter(tmp_path, says)
    made.append(chain)
    reached = chain.live(6)
    assert reached is not None and reached <= 2
    assert max(chain.limits.values()) <= gas.MOST


def test_low_estimate_after_a_true_one__the_limit_covers_what_was_used(
    tmp_path: Path, made: list[Meter]
) -> None:
    chain = Meter(tmp_path, NEEDS)
    made.append(chain)
    assert chain.live(3) == 0
    chain.said["eth_estimateGas"] = lambda: Result(hex(40_000))
    assert chain.live(3, "cd" * 32) == 0
    assert list(chain.limits.values())[-1] >= NEEDS * 9 // 8


def test_restart__what_calls_used_is_known(tmp_path: Path, made: list[Meter]) -> None:
    chain = Meter(tmp_path, NEEDS)
    assert chain.live(3) == 0
    chain.close()
    again = Meter(tmp_path, 40_000)
    made.append(again)
    again.mined, again.limits = list(chain.mined), dict(chain.limits)
    assert again.live(3, "cd" * 32) == 0


def test_call_that_fails_for_another_reason__waits_as_before(
    tmp_path: Path, made: list[Meter]
) -> None:
    """Only want of gas is tried again at once."""
    chain = Meter(tmp_path, 2 * NEEDS)
    made.append(chain)
    plain = chain._rule

    def fails(method: str, params: list[Any]) -> Any:
        said = plain(method, params)
        if method == "eth_getTransactionReceipt" and said.value is not None:
            said.value["status"] = "0x0"
        return said

    chain.node.rule = fails
    assert chain.live(1) is None
    assert chain.live(1) is None
    assert len(chain.attempts.made(JOB)) == 1


def test_no_limit_is_enough__it_ends(tmp_path: Path, made: list[Meter]) -> None:
    chain = Meter(tmp_path, 60_000)
    made.append(chain)
    plain = chain._rule

    def never(method: str, params: list[Any]) -> Any:
        said = plain(method, params)
        if method == "eth_getTransactionReceipt" and said.value is not None:
            used = chain.limits[bytes.fromhex(params[0][2:])]
            said.value.update(status="0x0", gasUsed=hex(used))
        return said

    chain.node.rule = never
    assert chain.live(40) is None
    assert max(chain.limits.values()) <= gas.MOST
    assert len(chain.limits) <= MAX_ATTEMPTS


def test_least__about_half_of_what_is_measured() -> None:
    lines = (ROOT / ".gas-snapshot").read_text().splitlines()
    measured = {name: int(n) for name, n in (re.split(r":\s*", line) for line in lines)}
    assert {f for functions in MEASURED.values() for f in functions} == set(gas.LEAST)
    for name, functions in MEASURED.items():
        for function in functions:
            assert 0.35 <= gas.LEAST[function] / measured[name] <= 0.8, name
