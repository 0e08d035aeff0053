# SPDX-License-Identifier: Apache-2.0
"""What is checked of a deployment afterwards: each difference from the plan is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.deployment import plan as plans
from scripts.deployment import verify
from scripts.deployment.plan import Plan
from teraproof.errors import CommandError
from teraproof.market import registry as registries
from teraproof.market.ui import QuietUi
from teraproof.rpc.client import RpcPool
from tests.scripts.actors import deploy, sender_of
from tests.scripts.deploying import DEPLOYER, STEPS, Artifacts, Kill, Killed, wrong
from tests.support.anvil import Anvil


def test_verify__chain_differs__told(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)

    def told() -> list[tuple[str, str]]:
        return wrong(local_plan, registry, artifacts, sender)

    assert told() == []
    for name in ("Jobs", "Timelock"):
        address = registry.address(name)
        code = bytearray.fromhex(fresh.rpc("eth_getCode", address, "latest")[2:])
        for place in (100, -1):
            changed = bytearray(code)
            changed[place] ^= 1
            fresh.rpc("anvil_setCode", address, "0x" + changed.hex())
            assert (name, "code") in told()
        fresh.rpc("anvil_setCode", address, "0x" + code.hex())
    assert told() == []
    # A right that nobody but the timelock itself may hold.
    timelock = registry.address("Timelock")
    with fresh.impersonate(timelock):
        fresh.set_balance(timelock, 10**18)
        grant = artifacts["Timelock"].abi.encode("grantRole", bytes(32), sender.address)
        fresh.send(timelock, timelock, grant)
    assert ("Timelock", "administers itself") in told()
    with pytest.raises(CommandError, match="do not use this deployment"):
        checks = verify.verify(local_plan, registry, artifacts, sender.chain)
        verify.report(checks, QuietUi())


@pytest.mark.parametrize("removed", [False, True], ids=["kept", "removed"])
def test_verify__manager_named_before_the_seal_beside_the_plan__told(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path, removed: bool
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    with pytest.MonkeyPatch.context() as patch:
        # All but the seal: what is seen before the last step is broadcast.
        patch.setattr(RpcPool, "broadcast", Kill(STEPS, False).wrap(RpcPool.broadcast))
        with pytest.raises(Killed):
            deploy(local_plan, artifacts, sender, tmp_path)
    half = registries.load(tmp_path, 31337)
    assert half is not None
    staking, abi = half.address("Staking"), artifacts["Staking"].abi
    extra = fresh.accounts[5].address
    fresh.wait(fresh.send(sender.address, staking, abi.encode("setup_manager", extra, 1)))
    if removed:
        timelock = half.address("Timelock")
        with fresh.impersonate(timelock):
            fresh.set_balance(timelock, 10**18)
            fresh.wait(fresh.send(timelock, staking, abi.encode("remove_manager", extra)))
        deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
        return
    with pytest.raises(CommandError, match="Staking managers when sealed; do not use"):
        deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    registry = registries.load(tmp_path, 31337)
    assert registry is not None
    assert wrong(local_plan, registry, artifacts, sender) == [("Staking", "managers when sealed")]


def test_verify__manager_named_by_the_timelock_since__told_and_fine(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)
    registry = registry.model_copy(update={"complete": True})
    timelock, staking = registry.address("Timelock"), registry.address("Staking")
    extra = fresh.accounts[5].address
    call = artifacts["Staking"].abi.encode("announce_manager", extra, 1)
    with fresh.impersonate(timelock):
        fresh.set_balance(timelock, 10**18)
        fresh.wait(fresh.send(timelock, staking, call))
    checks = verify.verify(local_plan, registry, artifacts, sender.chain)
    assert [check.what for check in checks if not check.ok] == []
    assert [check.detail for check in checks if check.what == "managers since"] == [
        f"named by its owner: {extra}"
    ]


def test_verify__everything_is_minted__still_the_contracts_of_the_plan(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)
    registry = registry.model_copy(update={"complete": True})
    token, emissions = registry.address("Token"), registry.address("Emissions")
    with fresh.impersonate(emissions):
        fresh.set_balance(emissions, 10**18)
        rest = artifacts["Token"].abi.encode("mint", sender.address, 9 * 10**26)
        fresh.wait(fresh.send(emissions, token, rest))
    assert wrong(local_plan, registry, artifacts, sender) == []


def test_verify__genesis_in_the_plan__good_before_and_after(
    fresh: Anvil, artifacts: Artifacts, tmp_path: Path, write_plan: Callable[..., Path]
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    genesis = sender.chain.head().timestamp + 1_000

    def change(document: dict[str, Any]) -> None:
        document["contracts"]["Benchmark"]["genesis"] = genesis

    plan = plans.load(write_plan(change), artifacts)
    registry, _ = deploy(plan, artifacts, sender, tmp_path)
    fresh.increase_time(2_000)
    checks = verify.verify(plan, registry, artifacts, sender.chain)
    assert [check.what for check in checks if not check.ok] == []
    assert ("Benchmark", "genesis", str(genesis)) in [(c.subject, c.what, c.detail) for c in checks]


def test_verify__registry_names_a_later_block__told(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)
    first = registry.contracts["Staking"]
    assert first.block is not None
    late = first.model_copy(update={"block": first.block + 1})
    changed = registry.model_copy(update={"contracts": {**registry.contracts, "Staking": late}})
    assert ("Staking", "all its events") in wrong(local_plan, changed, artifacts, sender)
