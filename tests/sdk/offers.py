# SPDX-License-Identifier: Apache-2.0
"""A job, an order for it, a provider and what its agent publishes, each to be changed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from teraproof.market.market import Market
from teraproof.market.providers import Provider
from teraproof.protocol import jobspec
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import ZERO_WORD, Order
from teraproof.storage.reach import Reach

TPF, USD = 10**18, 10**6
JOBS = "0x" + "33" * 20
OWNER, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
JOB: dict[str, Any] = {
    "version": 1,
    "kind": "batch",
    "name": "sample",
    "runtime": "python-ml",
    "command": ["python", "job.py"],
    "env": {},
    "inputs": [],
    "outputs": ["out"],
    "resources": {"cpus": 2, "memory_mb": 512, "disk_mb": 64, "gpus": 1},
    "timeout_seconds": 360,
    "deterministic": False,
    "network": False,
}
PUBLISHED: dict[str, Any] = {
    "owner": OWNER,
    "operator": OTHER,
    "chain_id": 7,
    "contracts": {"jobs": JOBS, "staking": JOBS},
    "runtimes": ["python-ml"],
    "price_per_hour": "1.5",
    "min_price": "0.01",
    "max_collateral": "1000",
    "collateral_per_token": "100",
    "max_seconds": 3_600,
    "limits": {"cpus": 4, "memory_mb": 1_024, "disk_mb": 128, "gpus": 1, "input_mb": 10},
    "slots": {"total": 2, "promised": 1},
    "devices": [{"kind": "cuda", "name": "H200", "memory_bytes": 1 << 37}],
    "proof": None,
    "sandbox": {"walls": "bubblewrap", "holds": True},
    "accept_refusable": False,
    "accept_judged": "no",
}
COURT = 2**200


def published(**changes: Any) -> bytes:
    return json.dumps({**PUBLISHED, **changes}).encode()


def spec(**changes: Any) -> JobSpec:
    return jobspec.parse(json.dumps({**JOB, **changes}).encode())


MARKET = cast(
    Market,
    SimpleNamespace(
        chain=SimpleNamespace(chain_id=7),
        reach=Reach.own(),
        jobs=SimpleNamespace(address=JOBS),
        decimals=6,
        show_price=lambda amount: f"{amount / USD:g} tUSD",
    ),
)


def provider(**changes: Any) -> Provider:
    values: dict[str, Any] = {
        "owner": OWNER,
        "operator": OTHER,
        "payout": OWNER,
        "endpoint": "http://agent",
        "commission_bps": 0,
        "active": 500 * TPF,
        "own": 500 * TPF,
        "locked": 0,
        "unbonding": 0,
        "max_lock_per_order": 100 * TPF,
        "max_locked": 500 * TPF,
        "score": 10**12,
        "reserved_score": 0,
    }
    return Provider(**{**values, **changes})


def order(**changes: Any) -> Order:
    values: dict[str, Any] = {
        "spec": spec().digest(),
        "start_price": 1 * USD,
        "max_price": 1 * USD,
        "collateral": 10 * TPF,
        "duration": 960,
        "auction": 0,
        "min_stake": 0,
        "min_score": 0,
        "allow_root": ZERO_WORD,
        "nonce": 1,
    }
    return Order(**{**values, **changes})
