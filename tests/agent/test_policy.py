# SPDX-License-Identifier: Apache-2.0
"""Which jobs are taken, at what price."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.capacity import Load
from provider_agent.core.settings import ChainSettings, RunnerSettings
from provider_agent.modules.jobs.policy import Policy, Standing
from provider_agent.modules.jobs.settings import JobsSettings
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Judged, Order, Terms
from tests.agent.duty_parts import TUSD
from tests.support.codes import code_or_none

OWNER = "0x" + "11" * 20
OTHER = "0x" + "22" * 20
UNIT = 10**6
NOW = 1_000_000


def root(owner: str) -> bytes:
    return keccak(keccak(encode(["address"], [owner])))


STANDING = Standing(
    owner=OWNER,
    operator_is_ours=True,
    active_stake=100 * 10**18,
    available=50 * 10**18,
    per_order=40 * 10**18,
    open_margin=600,
    has_scores=False,
    orders_paused=False,
    paused_seconds=0,
    consent=0,
    only_member_root=root(OWNER),
)
IDLE = Load(slots=2, committed=0, longest=0)
GIB = 1 << 30


def make_policy(
    jobs: dict[str, Any] | None = None, gpus: int = 0, runner: dict[str, Any] | None = None
) -> Policy:
    machine = {"runtimes": {"python-ml": Path("/opt/ml")}, "memory_mb": 512, "gpus": 1}
    chosen = {
        "price_per_hour": Decimal(36),
        "min_price": Decimal(0),
        "max_collateral": Decimal(30),
        "margin_seconds": 58,
    }
    chain = ChainSettings(
        rpc_urls=("http://localhost",),
        chain_id=1,
        staking=OWNER,
        jobs=OWNER,
        confirmations=2,
    )
    return Policy(
        JobsSettings(**{**chosen, **(jobs or {})}),
        RunnerSettings(**{**machine, **(runner or {})}),
        chain,
        TUSD,
        lambda: gpus,
        lambda: 10,
    )


def make_spec(**changes: Any) -> JobSpec:
    resources = {"cpus": 1, "memory_mb": 64, "disk_mb": 50, "gpus": 0}
    document = {
        "version": 1,
        "kind": "batch",
        "name": "test",
        "runtime": "python-ml",
        "command": ["python", "job.py"],
        "env": {},
        "inputs": [],
        "outputs": ["out"],
        "timeout_seconds": 100,
        "deterministic": True,
        "network": False,
        **changes,
        "resources": {**resources, **changes.get("resources", {})},
    }
    return parse(canonical(document))


def make_terms(**changes: Any) -> Terms:
    values: dict[str, Any] = {
        "spec": bytes(32),
        "start_price": 1 * UNIT,
        "max_price": 3 * UNIT,
        "collateral": 10 * 10**18,
        "duration": 225,
        "auction": 100,
        "min_stake": 0,
        "min_score": 0,
        "allow_root": bytes(32),
        "nonce": 1,
        **changes,
    }
    return Terms(OTHER, NOW, 3600, 100, 0, Order(**values))


def refusal(
    terms: Terms,
    *,
    at: int = 0,
    standing: Standing = STANDING,
    load: Load = IDLE,
    jobs: dict[str, Any] | None = None,
    allow: tuple[str, ...] = (),
) -> Code | None:
    policy, spec = make_policy(jobs), make_spec(**({"allow": list(allow)} if allow else {}))
    return code_or_none(
        policy.refuse_terms(terms, NOW + at, standing)
        or policy.refuse_spec(spec)
        or policy.refuse_list(terms.order, spec, standing)
        or policy.refuse_price(terms, policy.price(spec), NOW + at, standing)
        or policy.refuse_time(terms, spec, load)
    )


@pytest.mark.parametrize(
    "change, said",
    [
        ({"min_stake": 1_234_500 * 10**18}, "1,234,500 TPF"),
        ({"start_price": 1, "max_price": 2}, "1.25 tUSD"),
    ],
)
def test_refuse_terms__amounts_are_in_tokens(change: dict[str, int], said: str) -> None:
    policy = make_policy({"min_price": Decimal("1.25")})
    found = policy.refuse_terms(make_terms(**change), NOW, STANDING)
    assert found is not None and said in str(found)


def test_refuse_job__default_behavior() -> None:
    assert refusal(make_terms()) is None


def test_price__is_the_hourly_rate_rounded_up() -> None:
    assert make_policy().price(make_spec()) == 1 * UNIT
    assert make_policy({"price_per_hour": Decimal("0.000001")}).price(make_spec()) == 1
    assert make_policy({"price_per_hour": Decimal(0)}).price(make_spec()) == 1
    odd = make_policy({"price_per_hour": Decimal(1)}).price(make_spec(timeout_seconds=7))
    assert odd == 1945  # 1944.4


@pytest.mark.parametrize("seconds", [1, 60, 3_600])
def test_price__short_jobs_pay_for_their_gas(seconds: int) -> None:
    """Five jobs of a second for 278 units each cost their provider more in gas."""
    policy = make_policy({"price_per_hour": Decimal(1), "min_price": Decimal("0.5")})
    by_time = -(-seconds * UNIT // 3_600)
    assert policy.price(make_spec(timeout_seconds=seconds)) == max(by_time, UNIT // 2)
    default = JobsSettings().min_price
    assert default > 0


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"duration": 224}, Code.DURATION_TOO_SHORT),
        ({"start_price": UNIT - 1}, Code.PRICE_TOO_LOW),
        ({"min_score": 1}, Code.SCORE_MISSING),
        ({"allow_root": root(OTHER)}, Code.LIST_MISMATCH),
        ({"judged": Judged.REFUSABLE}, Code.NOT_REFUSABLE),
        ({"judged": 2}, Code.JUDGE_UNKNOWN),
        ({"judged": 3}, Code.JUDGE_UNKNOWN),
        ({"min_stake": 100 * 10**18 + 1}, Code.STAKE_MISSING),
        ({"collateral": 30 * 10**18 + 1}, Code.COLLATERAL_OVER_PRICE),
    ],
)
def test_refuse_job__one_thing_is_not_good_enough(changes: dict[str, Any], code: Code) -> None:
    assert refusal(make_terms(**changes)) is code


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": 225},
        {"start_price": UNIT},
        {"allow_root": root(OWNER)},
        {"min_stake": 100 * 10**18},
        {"collateral": 30 * 10**18},
        {"collateral": 0},
    ],
)
def test_refuse_job__just_good_enough(changes: dict[str, Any]) -> None:
    assert refusal(make_terms(**changes)) is None


def test_refuse_job__proven_score__only_what_is_free() -> None:
    proven = replace(STANDING, has_scores=True, free_score=10**12)
    assert refusal(make_terms(min_score=10**12), standing=proven) is None
    said = refusal(make_terms(min_score=10**12 + 1), standing=proven)
    assert said == Code.SCORE_MISSING


def test_refuse_job__price_rises_until_it_is_enough() -> None:
    cheap = make_terms(start_price=0, collateral=0)
    assert refusal(cheap, at=33) is Code.PRICE_TOO_LOW
    assert refusal(cheap, at=34) is None


def test_refuse_job__a_block_before_the_posting_counts_as_the_posting() -> None:
    assert refusal(make_terms(), at=-5) is None


def test_refuse_job__open_until_auction_and_margin_are_over() -> None:
    assert refusal(make_terms(), at=700) is None
    assert refusal(make_terms(), at=701) == Code.NOT_OPEN


def test_refuse_job__refusable_orders_are_the_owners_choice() -> None:
    refusable = make_terms(judged=Judged.REFUSABLE)
    assert refusal(refusable, jobs={"accept_refusable": True}) is None
    unknown = refusal(make_terms(judged=2), jobs={"accept_refusable": True})
    assert unknown is Code.JUDGE_UNKNOWN


def test_refuse_job__list_in_the_specification() -> None:
    both = allow_list.ordered([OTHER, OWNER])
    listed = make_terms(allow_root=allow_list.root(both))
    assert refusal(listed, allow=both) is None
    for wrong in ((), (OWNER,), allow_list.ordered([*both, "0x" + "33" * 20])):
        said = refusal(listed, allow=wrong)
        assert said == Code.LIST_MISMATCH
    others = (OTHER,)
    said = refusal(make_terms(allow_root=allow_list.root(others)), allow=others)
    assert said == Code.NOT_LISTED


def test_path__leads_from_this_provider_to_the_root() -> None:
    policy, both = make_policy(), allow_list.ordered([OTHER, OWNER])
    listed = make_terms(allow_root=allow_list.root(both)).order
    spec = make_spec(allow=list(both))
    assert policy.path(listed, spec, STANDING) == [root(OTHER)]
    # Nothing must be shown without a list on chain, nor on one of a single name.
    for order in (make_terms().order, make_terms(allow_root=root(OWNER)).order):
        assert policy.path(order, make_spec(allow=[OTHER]), STANDING) == []


def test_refuse_job__a_pause_stops_the_clock() -> None:
    """The price that is looked at is the one that the contract would pay."""
    cheap = make_terms(start_price=0, collateral=0)
    later = replace(STANDING, paused_seconds=1_000)
    assert refusal(cheap, at=1_033, standing=later) is Code.PRICE_TOO_LOW
    assert refusal(cheap, at=1_034, standing=later) is None
    assert refusal(make_terms(), at=1_700, standing=later) is None
    assert refusal(make_terms(), at=1_701, standing=later) == Code.NOT_OPEN
    dear = make_terms(start_price=0, collateral=10**18)
    code = Code.COLLATERAL_OVER_PRICE
    assert refusal(dear, at=1_000, standing=later) is code


def test_refuse_job__orders_are_paused() -> None:
    paused = replace(STANDING, orders_paused=True)
    assert refusal(make_terms(), standing=paused) == Code.ORDERS_PAUSED


def test_refuse_job__limits_of_the_owner_on_chain() -> None:
    tight = replace(STANDING, per_order=10**18)
    assert refusal(make_terms(), standing=tight) is Code.COLLATERAL_OVER_LIMIT
    locked = replace(STANDING, available=10**18)
    assert refusal(make_terms(), standing=locked) is Code.COLLATERAL_TAKEN


def test_refuse_terms__collateral_is_tied_to_the_price() -> None:
    """A job for a fraction of a cent must not put a thousand dollars of stake at risk."""
    cheap = make_terms(start_price=UNIT // 100, max_price=UNIT // 100, collateral=10**18 + 1)
    code = Code.COLLATERAL_OVER_PRICE
    refused = make_policy().refuse_terms(cheap, NOW, STANDING)
    assert code_or_none(refused) is code
    fair = make_terms(start_price=UNIT // 100, max_price=UNIT // 100, collateral=10**18)
    assert make_policy().refuse_terms(fair, NOW, STANDING) is None
    assert make_policy().collateral(10**30) == 30 * 10**18


def test_refuse_spec__many_names_for_one_large_input() -> None:
    inputs = [{"path": f"f{n}", "sha256": "ab" * 32, "size": 1 << 30} for n in range(9)]
    spec = make_spec(inputs=inputs)
    refused = make_policy().refuse_spec(spec)
    assert refused is not None and refused.details == {"field": "input_mb", "limit": 8_192}
    assert make_policy(runner={"input_mb": 9_216}).refuse_spec(spec) is None


def test_busy_seconds__copying_counts() -> None:
    policy = make_policy()
    inputs = [{"path": "f", "sha256": "ab" * 32, "size": 500 << 20}]
    assert policy.busy_seconds(make_spec()) == 117
    assert policy.busy_seconds(make_spec(inputs=inputs)) == 137


def test_seconds_needed__waits_for_whole_waves_of_promised_work() -> None:
    policy, spec = make_policy(), make_spec()
    # 100 s of its own, 2 s of copying, 15 s for what it may have made, 58 s of margin, five blocks
    # of 10 s.
    assert policy.seconds_needed(spec, Load(2, 1, 500)) == 225
    assert policy.seconds_needed(spec, Load(2, 2, 500)) == 725
    assert policy.seconds_needed(spec, Load(2, 3, 500)) == 725
    assert policy.seconds_needed(spec, Load(2, 4, 500)) == 1225
    busy = Load(2, 2, 500)
    assert refusal(make_terms(), load=busy) is Code.DURATION_TOO_SHORT


@pytest.mark.parametrize(
    ("changes", "details"),
    [
        ({"runtime": "rust"}, {"offered": ["python-ml"]}),
        ({"resources": {"cpus": 2}}, {"field": "cpus", "limit": 1}),
        ({"resources": {"memory_mb": 513}}, {"field": "memory_mb", "limit": 512}),
        ({"resources": {"disk_mb": 5000}}, {"field": "disk_mb", "limit": 4096}),
        ({"resources": {"gpus": 1}}, {"field": "gpus", "limit": 0}),
        ({"timeout_seconds": 86_401}, {"field": "timeout_seconds", "limit": 86_400}),
    ],
)
def test_refuse_spec__asks_for_too_much(changes: dict[str, Any], details: dict[str, Any]) -> None:
    refused = make_policy().refuse_spec(make_spec(**changes))
    assert refused is not None and refused.details == details
    limited = "field" in details
    assert refused.code is (Code.LIMIT_EXCEEDED if limited else Code.RUNTIME_NOT_OFFERED)


def test_refuse_spec__gpus_that_are_there() -> None:
    assert make_policy(gpus=1).refuse_spec(make_spec(resources={"gpus": 1})) is None


@given(
    rate=st.decimals(0, 10**6, places=6),
    timeout=st.integers(1, 86_400),
    more=st.integers(0, 1000),
)
def test_price__never_below_the_rate_and_grows_with_time(
    rate: Decimal, timeout: int, more: int
) -> None:
    policy = make_policy({"price_per_hour": rate})
    price = policy.price(make_spec(timeout_seconds=timeout))
    assert price * 3600 >= rate * UNIT * timeout
    assert (price - 1) * 3600 < rate * UNIT * timeout or price == 1
    longer = min(86_400, timeout + more)
    assert policy.price(make_spec(timeout_seconds=longer)) >= price


@pytest.mark.parametrize("machine", [{}, {"output_mb": 1}, {"output_mb": 64, "pids": 4096}])
def test_limits__deterministic__the_same_at_every_provider(machine: dict[str, Any]) -> None:
    """What ends a job must not depend on who runs it, or an honest result looks like a lie."""
    limits = make_policy(runner=machine).limits(make_spec(), 100)
    assert limits == make_policy().limits(make_spec(), 100)
    assert (limits.pids, limits.output_bytes) == (256, 16 << 20)


def test_limits__not_deterministic__as_the_owner_says() -> None:
    policy = make_policy(runner={"output_mb": 3, "pids": 99})
    limits = policy.limits(make_spec(deterministic=False), 100)
    assert (limits.pids, limits.output_bytes) == (99, 3 << 20)
    assert policy.refuse_spec(make_spec(deterministic=False)) is None


def test_refuse_spec__deterministic_job_at_a_machine_with_too_few_processes() -> None:
    refused = make_policy(runner={"pids": 255}).refuse_spec(make_spec())
    assert refused is not None and refused.code is Code.LIMIT_EXCEEDED
    assert (refused.details["field"], refused.details["limit"]) == ("pids", 255)
    assert make_policy(runner={"pids": 256}).refuse_spec(make_spec()) is None
