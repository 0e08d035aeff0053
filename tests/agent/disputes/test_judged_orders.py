# SPDX-License-Identifier: Apache-2.0
"""Judged orders: whose are taken, that jurors could run them again, and that nothing is guessed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from provider_agent.core.capacity import Load
from provider_agent.core.panels import Panels
from provider_agent.core.settings import ChainSettings, RunnerSettings
from provider_agent.devices import Device
from provider_agent.modules.jobs.policy import Policy
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.views import offer
from provider_agent.runners.base import Phase, Reason, RunState
from provider_agent.runners.layout import lay_out
from provider_agent.settings import validate
from teraproof.errors import WrongInput
from teraproof.protocol.capability import Capability, beyond, bounds
from teraproof.protocol.digests import Origin, result_digest, vote_seal
from teraproof.protocol.errors import Code
from teraproof.protocol.outcome import Ending, of_result, same_failure
from teraproof.protocol.terms import LEAST_CAPABILITY, Judged
from tests.agent.disputes.rig import spec_of
from tests.agent.duty_parts import OTHER, OWNER, STAKING, TENANT, TUSD

HERE = Capability("batch", "plain", "cpu").number()
ORIGIN = Origin(b"\x21" * 32, OWNER)
GPU = Device("cuda", 0, "NVIDIA H100 80GB HBM3", "GPU-1", 80 << 30)


def policy(*devices: Device, **jobs: Any) -> Policy:
    chain = ChainSettings(rpc_urls=("http://localhost",), chain_id=1, staking=STAKING, jobs=OWNER)
    return Policy(
        JobsSettings(**jobs),
        RunnerSettings(runtimes={"plain": Path("/opt/plain")}, gpus=1),
        chain,
        TUSD,
        lambda: len(devices),
        lambda: 1.0,
        devices=lambda: devices,
    )


# ------------------------------------------------------------------------ whose they are


@pytest.mark.parametrize(
    "trusted, code",
    [
        ((), Code.COURT_REFUSED),
        ((OTHER,), Code.COURT_REFUSED),
        ((TENANT,), None),
        ((spec_of().digest().hex(),), None),
        (("0x" + spec_of().digest().hex().upper(),), None),
        (("00" * 32,), Code.COURT_REFUSED),
        (("anyone",), None),
    ],
)
def test_whose_orders__the_owners_choice(trusted: tuple[str, ...], code: Code | None) -> None:
    """A tenant can write a job that gives jurors another result than its provider."""
    found = policy(accept_judged=trusted).refuse_way(HERE, TENANT, spec_of().digest())
    assert (None if found is None else found.code) is code


def test_whose_orders__trusted_ones_are_not_asked_for() -> None:
    assert policy().refuse_way(Judged.TRUSTED, TENANT, bytes(32)) is None


@pytest.mark.parametrize("number", [2, 3, LEAST_CAPABILITY])
def test_no_capability_and_no_known_way__refused_whoever_asks(number: int) -> None:
    found = policy(accept_judged=("anyone",)).refuse_way(number, TENANT, bytes(32))
    assert found is not None and found.code is Code.JUDGE_UNKNOWN


@pytest.mark.parametrize("value", ["everyone", "0x12", "ff" * 31])
def test_setting__neither_address_nor_digest__one_line(value: str) -> None:
    with pytest.raises(ValueError, match="give an address"):
        JobsSettings(accept_judged=(value,))


def test_told_to_tenants() -> None:
    told = [JobsSettings(accept_judged=one).judged_for for one in ((), (TENANT,), ("anyone",))]
    assert told == ["no", "listed", "anyone"]


def test_collateral__less_than_for_other_orders() -> None:
    made = policy(collateral_per_token=Decimal(100), judged_collateral_per_token=Decimal(20))
    assert made.collateral(10**6) == 100 * 10**18
    assert made.collateral(10**6, Judged.REFUSABLE) == 100 * 10**18
    assert made.collateral(10**6, HERE) == 20 * 10**18
    less = policy(collateral_per_token=Decimal(5), judged_collateral_per_token=Decimal(20))
    assert less.collateral(10**6, HERE) == 5 * 10**18


@pytest.mark.parametrize("each, judged, told", [("100", "20", "20"), ("5", "20", "5")])
def test_provider_description__what_judged_orders_get(each: str, judged: str, told: str) -> None:
    chain = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "staking": STAKING, "jobs": OWNER}
    jobs = {"collateral_per_token": each, "judged_collateral_per_token": judged}
    settings = validate({"chain": chain, "operator": {}, "jobs": jobs})
    found = offer(settings, Load(slots=1, committed=0, longest=0), 0)
    assert found["collateral_per_token"] == each
    assert found["judged_collateral_per_token"] == told


# ---------------------------------------------------------------------- who can run them


@pytest.mark.parametrize(
    "changes",
    [
        {"deterministic": False},
        {"resources": {"cpus": 3, "memory_mb": 64, "disk_mb": 64, "gpus": 0}},
        {"resources": {"cpus": 1, "memory_mb": 4_097, "disk_mb": 64, "gpus": 0}},
        {"resources": {"cpus": 1, "memory_mb": 64, "disk_mb": 8_193, "gpus": 0}},
        {"inputs": [{"path": "a", "sha256": "0" * 64, "size": (2 << 30) + 1}]},
    ],
)
def test_beyond_what_jurors_have__refused_before_it_is_taken(changes: dict[str, Any]) -> None:
    spec = spec_of(**changes)
    assert beyond(spec) is not None
    found = policy().refuse_judged(HERE, spec)
    assert found is not None and found.code is Code.CAPABILITY_MISMATCH
    assert policy().refuse_judged(Judged.TRUSTED, spec) is None


def test_bounds__grow_with_the_gpus() -> None:
    none, two = bounds(0), bounds(2)
    assert two.cpus > none.cpus and two.memory_mb > none.memory_mb
    wide = {"cpus": 8, "memory_mb": 60_000, "disk_mb": 10_000, "gpus": 1}
    assert beyond(spec_of(resources=wide)) is None
    assert beyond(spec_of(resources={**wide, "gpus": 0})) is not None


@pytest.mark.parametrize("kind, runtime, hardware", [
    ("train", "plain", "cpu"), ("batch", "other", "cpu"), ("batch", "plain", "nvidia-h100"),
])  # fmt: skip
def test_jurors_of_something_else__refused(kind: str, runtime: str, hardware: str) -> None:
    number = Capability(kind, runtime, hardware).number()
    found = policy(GPU).refuse_judged(number, spec_of())
    assert found is not None and found.code is Code.CAPABILITY_MISMATCH
    assert policy(GPU).refuse_judged(HERE, spec_of()) is None


def test_gpu_order__jurors_of_the_class_that_is_here() -> None:
    spec = spec_of(resources={"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 1})
    here = Capability("batch", "plain", "nvidia-h100").number()
    assert policy(GPU).refuse_judged(here, spec) is None
    other = Capability("batch", "plain", "nvidia-a100").number()
    for number in (HERE, other):
        assert policy(GPU).refuse_judged(number, spec) is not None


@pytest.mark.parametrize("text", ["", "batch|plain", "batch|plain|cpu|x", "batch plain cpu"])
def test_capability__unfit_text__refused(text: str) -> None:
    with pytest.raises(WrongInput, match="capability"):
        Capability.parse(text)
    assert str(Capability.parse("batch|plain|cpu")) == "batch|plain|cpu"


# ------------------------------------------------------------------- what can be guessed


def failed(tmp_path: Path, name: str, salt: bytes | None) -> bytes:
    state = RunState(Phase.EXITED, Reason.EXITED, 3)
    return lay_out(tmp_path / name, state, None, salt)


def test_failure_of_a_judged_order__nobody_knows_its_seal_without_the_file(tmp_path: Path) -> None:
    """There are two thousand ways to fail: a juror could try them all."""
    plain = failed(tmp_path, "plain", None)
    assert of_result(result_digest(plain, ORIGIN), ORIGIN) == Ending("exited", 3)
    salted = failed(tmp_path, "salted", b"\7" * 32)
    assert of_result(result_digest(salted, ORIGIN), ORIGIN) is None
    files = [failed(tmp_path, f"guess{n}", bytes([n]) * 32) for n in (1, 2, 3)]
    assert result_digest(salted, ORIGIN) not in {result_digest(one, ORIGIN) for one in files}
    assert vote_seal(salted, ORIGIN, 0) != vote_seal(plain, ORIGIN, 0)
    ours, theirs = ((tmp_path / n / "failure.json").read_bytes() for n in ("plain", "salted"))
    assert same_failure(ours, theirs)


@pytest.mark.parametrize(
    "other",
    [
        b'{"exit_code":4,"reason":"exited"}',
        b'{"exit_code":3,"reason":"memory"}',
        b'{"exit_code":3,"reason":"exited","more":1}',
        b"[]",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_same_failure__anything_but_the_salt_counts(other: bytes) -> None:
    ours = json.dumps({"exit_code": 3, "reason": "exited"}).encode()
    assert not same_failure(ours, other)


# -------------------------------------------------------------------------------- panels


def test_panels__who_was_told_and_nobody_else() -> None:
    panels = Panels()
    assert panels.until(b"\1" * 32, TENANT) is None
    panels.tell(b"\1" * 32, {TENANT: 5})
    assert panels.until(b"\1" * 32, TENANT) == 5
    assert panels.until(b"\1" * 32, OTHER) is panels.until(b"\2" * 32, TENANT) is None
    panels.tell(b"\1" * 32, {})
    assert panels.until(b"\1" * 32, TENANT) is None
