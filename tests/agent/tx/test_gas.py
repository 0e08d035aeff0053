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
from provider_agent.store import Intent, IntentKey, IntentState, Mined
from provider_agent.tx import gas
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.contracts import benchmark, emissions, jobs
from teraproof.contracts.abi import Function
from teraproof.rpc.client import RpcPool
from tests.agent.stub_node import CHAIN, GWEI, Result, StubNode, block
from tests.agent.tx.test_prices import OPERATOR, TARGET, Chain
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


# ---------------------------------------------------------------------- too much


def call(function: Function, data: int) -> Intent:
    """An intent of a call whose calldata costs about `data` gas."""
    made = function.selector + b"\1" * (data // 16 - 4)
    key = IntentKey("jobs", "ab", "x")
    planned = IntentState.PLANNED
    return Intent(1, key, TARGET, made, 0, planned, None, False, None, "", None, 0, 0)


def used(number: int) -> Mined:
    """What a receipt says of a call that went through."""
    return Mined(b"\1" * 32, 1, b"\2" * 32, 1, number, GWEI)


FIRST_USES = {
    "jobs_accept_first": (jobs.ACCEPT, 3_204),
    "jobs_attest_first": (jobs.ATTEST, 4_860),
    "jobs_finalize_first": (jobs.FINALIZE, 4_552),
    "jobs_expire_with_seizure_first": (jobs.EXPIRE, 3_204),
    "benchmark_open_epoch_first": (benchmark.OPEN, 13_160),
    "benchmark_commit_first": (benchmark.COMMIT, 856),
    "benchmark_close_first": (benchmark.CLOSE, 400),
    "benchmark_draw_first": (benchmark.DRAW, 7_000),
    "benchmark_fail_first": (benchmark.FAIL, 800),
    "benchmark_settle_void_first": (benchmark.SETTLE, 800),
    "emissions_claim_first": (emissions.CLAIM, 432),
    "benchmark_open_one_k16320": (benchmark.OPEN_SAMPLES, 29_300),
    "benchmark_open_one_k32640": (benchmark.OPEN_SAMPLES, 29_276),
    "benchmark_open_eight_k16320": (benchmark.OPEN_SAMPLES, 8 * 29_300),
    "benchmark_open_eight_k32640": (benchmark.OPEN_SAMPLES, 8 * 29_276),
}


@pytest.mark.parametrize("name", FIRST_USES)
def test_likely__covers_what_is_measured__and_not_much_more(
    made: list[Meter], tmp_path: Path, name: str
) -> None:
    chain = Meter(tmp_path, NEEDS)
    made.append(chain)
    lines = (ROOT / ".gas-snapshot").read_text().splitlines()
    measured = {one: int(n) for one, n in (re.split(r":\s*", line) for line in lines)}
    likely = gas.GasLimits(chain.store).likely(call(*FIRST_USES[name]))
    assert 1.5 * measured[name] <= likely <= 8 * measured[name]


def test_likely__follows_the_size_of_the_call(made: list[Meter], tmp_path: Path) -> None:
    """What eight openings used makes no limit of one."""
    chain = Meter(tmp_path, NEEDS)
    made.append(chain)
    limits = gas.GasLimits(chain.store)
    one, eight = (call(benchmark.OPEN_SAMPLES, n * 29_276) for n in (1, 8))
    limits.seen(eight, used(2_040_738))
    assert limits.limit(one, 297_577, gas.MOST) == 297_577 * 5 // 4
    assert limits.limit(eight, 400_000, gas.MOST) >= 2_040_738 * 9 // 8
    assert limits.likely(eight) > 2_500_000 > limits.likely(one)


def test_receipts_that_lie_of_the_gas_used__make_no_dear_limit(
    made: list[Meter], tmp_path: Path
) -> None:
    chain = Meter(tmp_path, NEEDS)
    made.append(chain)
    limits = gas.GasLimits(chain.store)
    attest = call(jobs.ATTEST, 4_860)
    for _ in range(40):
        limits.seen(attest, used(7_000_000))
    assert limits.limit(attest, 42_000, gas.MOST) <= 250_000
    # Where endpoints agree that data is dear, it is.
    assert limits.limit(attest, 3_000_000, gas.MOST) == 3_750_000


class Two(Meter):
    """The same with a second, honest endpoint."""

    def __init__(self, folder: Path, says: int) -> None:
        super().__init__(folder, says)
        self.honest = StubNode(self._honest)
        self.honest.__enter__()
        self.pool.close()
        self.pool = RpcPool([self.node.url, self.honest.url], CHAIN, 2.0, max_wait=0.2)
        self.sender = Sender(
            *(self.pool, self.store, OperatorKey(OPERATOR)),
            max_fee=200 * GWEI,
            max_tip=5 * GWEI,
            confirmations=0,
            clock=lambda: self.now,
        )
        self.sender.start()
        self.attempts = Attempts(
            self.store, self.sender, "jobs", TARGET, clock=lambda: float(self.now)
        )

    def _honest(self, method: str, params: list[Any]) -> Any:
        return Result(hex(NEEDS)) if method == "eth_estimateGas" else self._rule(method, params)

    def close(self) -> None:
        self.honest.__exit__()
        super().close()


@pytest.mark.parametrize("says", [500_000, 3_000_000, 7_999_999])
def test_high_estimate_of_one_node__no_more_is_locked_than_the_call_needs(
    tmp_path: Path, made: list[Meter], says: int
) -> None:
    chain = Two(tmp_path, says)
    made.append(chain)
    assert chain.live(3) == 0
    assert max(chain.limits.values()) <= 2 * NEEDS


@pytest.mark.parametrize("says", [3_000_000, 7_000_000])
def test_dear_data__both_say_so__the_call_goes_out(
    tmp_path: Path, made: list[Meter], says: int
) -> None:
    """On a rollup a call may need many times what it needs elsewhere."""
    chain = Two(tmp_path, says)
    made.append(chain)
    chain.honest.rule = chain._rule
    assert chain.live(3) == 0
    assert min(chain.limits.values()) >= says
