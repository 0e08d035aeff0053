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

from provider_agent.duties.policy import Load, Policy, Standing
from provider_agent.protocol.jobspec import JobSpec, canonical, parse
from provider_agent.protocol.terms import Order, Terms
from provider_agent.settings import JobsSettings, RunnerSettings

OWNER = "0x" + "11" * 20
OTHER = "0x" + "22" * 20
UNIT = 10**6
NOW = 1_000_000


def root(owner: str) -> bytes:
    return keccak(keccak(encode(["address"], [owner])))


STANDING = Standing(
    owner=OWNER,
    payout=OWNER,
    operator_is_ours=True,
    active_stake=100 * 10**18,
    available=50 * 10**18,
    per_order=40 * 10**18,
    open_margin=600,
    has_scores=False,
    orders_paused=False,
    only_member_root=root(OWNER),
)
IDLE = Load(slots=2, committed=0, longest_timeout=0)


def make_policy(jobs: dict[str, Any] | None = None, gpus: int = 0) -> Policy:
    runner = RunnerSettings(runtimes={"python-ml": Path("/opt/ml")}, memory_mb=512, gpus=1)
    chosen = {"price_per_hour": Decimal(36), "max_collateral": Decimal(30), "margin_seconds": 60}
    return Policy(JobsSettings(**{**chosen, **(jobs or {})}), runner, UNIT, gpus)


def make_spec(**changes: Any) -> JobSpec:
    resources = {"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 0}
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
        "duration": 160,
        "auction": 100,
        "min_stake": 0,
        "min_score": 0,
        "allow_root": bytes(32),
        "nonce": 1,
        **changes,
    }
    return Terms(OTHER, NOW, 3600, 100, Order(**values))


def refusal(
    terms: Terms,
    *,
    at: int = 0,
    standing: Standing = STANDING,
    load: Load = IDLE,
    jobs: dict[str, Any] | None = None,
) -> str | None:
    return make_policy(jobs).refuse_job(terms, make_spec(), NOW + at, standing, load)


def test_refuse_job__default_behavior() -> None:
    assert refusal(make_terms()) is None


def test_price__is_the_hourly_rate_rounded_up() -> None:
    assert make_policy().price(make_spec()) == 1 * UNIT
    assert make_policy({"price_per_hour": Decimal("0.000001")}).price(make_spec()) == 1
    assert make_policy({"price_per_hour": Decimal(0)}).price(make_spec()) == 1
    odd = make_policy({"price_per_hour": Decimal(1)}).price(make_spec(timeout_seconds=7))
    assert odd == 1945  # 1944.4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"duration": 159}, "159 s to the deadline are too short; 160 s are needed"),
        ({"start_price": UNIT - 1}, "the price is 999999, 1000000 is asked"),
        ({"min_score": 1}, "no source of scores"),
        ({"allow_root": root(OTHER)}, "a list that this provider cannot show"),
        ({"min_stake": 100 * 10**18 + 1}, "asks for a stake of"),
        ({"collateral": 30 * 10**18 + 1}, "is above this provider's"),
    ],
)
def test_refuse_job__one_thing_is_not_good_enough(changes: dict[str, Any], said: str) -> None:
    assert said in (refusal(make_terms(**changes)) or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": 160},
        {"start_price": UNIT},
        {"allow_root": root(OWNER)},
        {"min_stake": 100 * 10**18},
        {"collateral": 30 * 10**18},
        {"collateral": 0},
    ],
)
def test_refuse_job__just_good_enough(changes: dict[str, Any]) -> None:
    assert refusal(make_terms(**changes)) is None


def test_refuse_job__price_rises_until_it_is_enough() -> None:
    cheap = make_terms(start_price=0)
    assert "is asked" in (refusal(cheap, at=33) or "")
    assert refusal(cheap, at=34) is None


def test_refuse_job__a_block_before_the_posting_counts_as_the_posting() -> None:
    assert refusal(make_terms(), at=-5) is None


def test_refuse_job__open_until_auction_and_margin_are_over() -> None:
    assert refusal(make_terms(), at=700) is None
    assert refusal(make_terms(), at=701) == "no longer open"


def test_refuse_job__orders_are_paused() -> None:
    paused = replace(STANDING, orders_paused=True)
    assert refusal(make_terms(), standing=paused) == "new orders are paused"


def test_refuse_job__limits_of_the_owner_on_chain() -> None:
    tight = replace(STANDING, per_order=10**18)
    assert "the owner's limit" in (refusal(make_terms(), standing=tight) or "")
    locked = replace(STANDING, available=10**18)
    assert "not locked" in (refusal(make_terms(), standing=locked) or "")


def test_seconds_needed__waits_for_whole_waves_of_promised_work() -> None:
    policy, spec = make_policy(), make_spec()
    assert policy.seconds_needed(spec, Load(2, 1, 500)) == 160
    assert policy.seconds_needed(spec, Load(2, 2, 500)) == 660
    assert policy.seconds_needed(spec, Load(2, 3, 500)) == 660
    assert policy.seconds_needed(spec, Load(2, 4, 500)) == 1160
    busy = Load(2, 2, 500)
    assert "660 s are needed" in (refusal(make_terms(), load=busy) or "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime": "rust"}, "runtime rust is not offered here (offered: python-ml)"),
        ({"resources": {"cpus": 2}}, "cpus 2 is above this provider's 1"),
        ({"resources": {"memory_mb": 513}}, "memory_mb 513"),
        ({"resources": {"disk_mb": 5000}}, "disk_mb 5000"),
        ({"resources": {"gpus": 1}}, "gpus 1 is above this provider's 0"),
        ({"timeout_seconds": 86_401}, "timeout_seconds 86401"),
    ],
)
def test_refuse_spec__asks_for_too_much(changes: dict[str, Any], said: str) -> None:
    assert said in (make_policy().refuse_spec(make_spec(**changes)) or "")


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
