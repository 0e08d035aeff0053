# SPDX-License-Identifier: Apache-2.0
"""Deployment on a local chain: complete, verified, and never twice, whenever it is interrupted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.deployment import deployer
from scripts.deployment import plan as plans
from scripts.deployment.channels import PLACES
from scripts.deployment.checks import check_network, current
from scripts.deployment.deployer import Deployment
from scripts.deployment.plan import Plan
from teraproof.errors import CommandError
from teraproof.headers import HISTORY
from teraproof.market import registry as registries
from teraproof.market.chain import Chain
from teraproof.market.ui import QuietUi
from teraproof.rpc.client import RpcPool
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.scripts.deploying import DEPLOYER, STEPS, Artifacts, Kill, Killed, wrong
from tests.support import budget
from tests.support.anvil import Anvil


def test_deploy__fresh_chain__everything_recorded_and_verified(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    before = fresh.nonce(sender.address)
    registry, ui = deploy(local_plan, artifacts, sender, tmp_path)
    assert fresh.nonce(sender.address) == before + STEPS
    stored = json.loads((tmp_path / "31337.json").read_text())
    assert stored["complete"] is True
    assert "pending" not in stored
    for name, artifact in artifacts.items():
        entry = stored["contracts"][name]
        assert entry["bytecode_sha256"] == artifact.bytecode_hash
        assert entry["compiler"].startswith("vyper 0.4.3+commit.")
        if name in PLACES:
            assert entry["address"] == PLACES[name]
            assert "transaction" not in entry
            continue
        assert entry["block"] > 0
        receipt = fresh.receipt(entry["transaction"])
        assert receipt is not None
        assert receipt["contractAddress"] == entry["address"].lower()
        assert int(receipt["gasUsed"], 16) == entry["gas_used"]
    assert stored["contracts"]["Jobs"]["arguments"]["staking"] == registry.address("Staking")
    assert not [line for line in ui.lines if "WRONG" in line]
    # What was asked before: values as the plan has them, names with their addresses.
    told = "\n".join(ui.lines)
    staking, timelock = registry.address("Staking"), registry.address("Timelock")
    assert "cap = 1_000_000_000 TPF" in told
    assert "max_lock = 30 days" in told
    assert f"proposers = {sender.address} (deployer)" in told
    assert f"staking = {staking} (Staking)" in told
    assert f"owner = {timelock} (Timelock)" in told
    assert "$" not in told


def test_deploy__again__sends_nothing(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    first, _ = deploy(local_plan, artifacts, sender, tmp_path)
    nonce = fresh.nonce(sender.address)
    again, _ = deploy(local_plan, artifacts, sender, tmp_path)
    assert fresh.nonce(sender.address) == nonce
    assert again == first.model_copy(update={"complete": True})


# Each step saves twice (intent, done) and broadcasts once, after a first save and before a last:
# 2 + 3 * 19 moments. Here: the first contract, Benchmark (which has a clock), a manager, the five
# that name a contract to another, the seal among them, and the channels, which are placed.
MOMENTS = [1, 2, 3, 4, 15, 16, 29, 30, 31, *range(44, 57), 58, 59]


@pytest.mark.parametrize(("moment", "after"), budget.crossed(MOMENTS, [False, True]))
def test_deploy__killed_anywhere__goes_on_and_deploys_nothing_twice(
    moment: int,
    after: bool,
    fresh: Anvil,
    local_plan: Plan,
    artifacts: Artifacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    nonce = fresh.nonce(sender.address)
    kill = Kill(moment, after)
    with monkeypatch.context() as patch:
        patch.setattr(deployer, "save", kill.wrap(registries.save))
        patch.setattr(RpcPool, "broadcast", kill.wrap(RpcPool.broadcast))
        with pytest.raises(Killed):
            deploy(local_plan, artifacts, sender, tmp_path)
    registry, _ = deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    assert fresh.nonce(sender.address) == nonce + STEPS
    assert registry.pending is None


def test_deploy__killed_while_waiting__the_same_transaction_is_used(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    fresh.set_automine(False)
    try:
        impatient = sender_of(fresh, DEPLOYER, chain_of(fresh, receipt_seconds=0.3))
        with pytest.raises(CommandError, match=r"Timelock: .* is not mined after .* run the same"):
            deploy(local_plan, artifacts, impatient, tmp_path)
        pending = registries.load(tmp_path, 31337)
        assert pending is not None
        assert pending.pending is not None
    finally:
        fresh.set_automine(True)
    registry, _ = deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    assert registry.contracts["Timelock"].transaction == pending.pending.hashes[0]


def test_deploy__fee_too_low_by_now__replaced_with_the_same_nonce(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    fresh.set_automine(False)
    impatient = sender_of(fresh, DEPLOYER, chain_of(fresh, receipt_seconds=0.3))
    nonce = fresh.nonce(impatient.address)
    try:
        with pytest.raises(CommandError, match="not mined"):
            deploy(local_plan, artifacts, impatient, tmp_path)
        fresh.drop_all_transactions()
        fresh.set_next_base_fee(50 * 10**9)
        fresh.mine()
    finally:
        fresh.set_automine(True)
    registry, ui = deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    assert any("offering more" in line for line in ui.lines)
    assert fresh.nonce(impatient.address) == nonce + STEPS
    assert registry.complete


def test_deploy__nonce_went_elsewhere__step_is_sent_again(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RpcPool, "broadcast", Kill(2, False).wrap(RpcPool.broadcast))
        with pytest.raises(Killed):
            deploy(local_plan, artifacts, sender, tmp_path)
    fresh.send(sender.address, sender.address)
    registry, ui = deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    assert any("another transaction used its nonce" in line for line in ui.lines)
    assert registry.complete


def test_current__plan_changed_midway__refused(
    fresh: Anvil,
    local_plan: Plan,
    artifacts: Artifacts,
    tmp_path: Path,
    write_plan: Callable[..., Path],
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RpcPool, "broadcast", Kill(3, True).wrap(RpcPool.broadcast))
        with pytest.raises(Killed):
            deploy(local_plan, artifacts, sender, tmp_path)

    def change(document: dict[str, Any]) -> None:
        document["contracts"]["Jobs"]["fee_bps"] = 7

    changed = plans.load(write_plan(change), artifacts)
    with pytest.raises(CommandError, match="begun with another plan"):
        current(changed, sender.chain, tmp_path, QuietUi())
    other = sender_of(fresh, 1)
    known = current(local_plan, sender.chain, tmp_path, QuietUi())
    with pytest.raises(CommandError, match="go on with that account"):
        Deployment(local_plan, artifacts, other, tmp_path, QuietUi(), known)


def test_current__local_chain_is_gone__starts_anew_and_elsewhere_refuses(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    snapshot = fresh.snapshot()
    deploy(local_plan, artifacts, sender, tmp_path)
    fresh.revert(snapshot)
    public = dataclasses.replace(sender.chain, chain_id=31337)
    object.__setattr__(public, "chain_id", _Public(31337))
    with pytest.raises(CommandError, match=r"names Timelock .* does not have"):
        current(local_plan, public, tmp_path, QuietUi())
    with pytest.raises(CommandError, match="Timelock has no code at"):
        registries.require(tmp_path, sender.chain)
    registry, ui = deploy(local_plan, artifacts, sender, tmp_path)
    assert any("is gone; starting again" in line for line in ui.lines)
    assert registry.complete
    stored = json.loads((tmp_path / "31337.json").read_text())
    stored["genesis"] = "0x" + "00" * 32
    (tmp_path / "31337.json").write_text(json.dumps(stored))
    with pytest.raises(CommandError, match="its first block differs"):
        registries.require(tmp_path, sender.chain)


class _Public(int):
    """A chain id that is in no list of local or test chains."""

    def __hash__(self) -> int:
        return -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) == int(other) and other is not self


def test_check_network__test_token_on_a_real_chain__refused(
    artifacts: Artifacts, write_plan: Callable[..., Path], anvil: Anvil
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["chain_id"] = 1
        document["contracts"]["Staking"]["unbonding"] = "7 days"
        document["contracts"]["Benchmark"].update(
            window=300,
            open_period=30,
            slot=60,
            draw_period=60,
            reach=120,
            opening_period=600,
            spacing=1_080,
            bond_life="7 days",
        )

    plan = plans.load(write_plan(change), artifacts)
    real = Chain(1, "ethereum:mainnet", chain_of(anvil).pool, 1)
    with pytest.raises(CommandError, match=r"the test token, .* is refused on chain 1"):
        check_network(plan, real)
    with pytest.raises(CommandError, match="is for chain 1, but ethereum:test is chain 31337"):
        check_network(plan, chain_of(anvil))


def test_check_network__randomness_that_the_chain_has_not__refused(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, write_plan: Callable[..., Path]
) -> None:
    def arbitrum(document: dict[str, Any]) -> None:
        for name in ("Benchmark", "Disputes"):
            document["contracts"][name]["randomness_source"] = 2

    plan = plans.load(write_plan(arbitrum), artifacts)
    with pytest.raises(CommandError, match=r"randomness_source: 2 needs Arbitrum's ArbSys, which"):
        check_network(plan, chain_of(fresh))
    # Where ArbSys is on Arbitrum: code that answers every call with the block's number.
    fresh.rpc("anvil_setCode", "0x" + "64".rjust(40, "0"), "0x4360005260206000f3")
    check_network(plan, chain_of(fresh))
    with pytest.raises(CommandError, match="randomness_source: 0 is constant or unknown on chain"):
        check_network(local_plan, chain_of(fresh))


def test_check_network__history_that_the_chain_has_not__refused(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, write_plan: Callable[..., Path]
) -> None:
    """A jury that nobody can draw any more is none: times to draw in rest on it."""
    fresh.rpc("anvil_setCode", HISTORY, "0x")
    with pytest.raises(CommandError, match=r"history_blocks: 8,191 need the contract of EIP-2935"):
        check_network(local_plan, chain_of(fresh))
    near = plans.load(write_plan(lambda plan: plan.update(history_blocks=256)), artifacts)
    check_network(near, chain_of(fresh))
    fresh.rpc("anvil_setCode", HISTORY, "0x4360005260206000f3")
    check_network(local_plan, chain_of(fresh))


def test_deploy__own_payment_token__checked_and_used(
    fresh: Anvil,
    local_plan: Plan,
    artifacts: Artifacts,
    tmp_path: Path,
    write_plan: Callable[..., Path],
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    first, _ = deploy(local_plan, artifacts, sender, tmp_path / "first")
    token = first.address("PaymentToken")

    def plan(address: str, decimals: int) -> Plan:
        entry = {"address": address, "decimals": decimals}
        return plans.load(write_plan(lambda d: d.update(payment_token=entry)), artifacts)

    with pytest.raises(CommandError, match="has no code on chain"):
        check_network(plan("0x" + "12" * 20, 6), sender.chain)
    with pytest.raises(CommandError, match="does not answer like an ERC-20"):
        check_network(plan(first.address("Staking"), 6), sender.chain)
    with pytest.raises(CommandError, match="has 6 decimals, the plan says 18"):
        check_network(plan(token, 18), sender.chain)
    second, _ = deploy(plan(token, 6), artifacts, sender, tmp_path / "second")
    assert second.contracts["PaymentToken"].address == token
    assert second.contracts["PaymentToken"].transaction is None
    assert len(second.contracts) == 11


def test_estimate__constructor_would_refuse__told_before_anything_is_sent(
    fresh: Anvil, artifacts: Artifacts, tmp_path: Path, write_plan: Callable[..., Path]
) -> None:
    def change(document: dict[str, Any]) -> None:
        document["contracts"]["Jobs"]["lock_margin"] = "29 days"

    sender = sender_of(fresh, DEPLOYER)
    nonce = fresh.nonce(sender.address)
    with pytest.raises(
        CommandError, match="Jobs: the contract refuses: collateral: locks too short"
    ):
        deploy(plans.load(write_plan(change), artifacts), artifacts, sender, tmp_path)
    assert fresh.nonce(sender.address) == nonce
    assert not (tmp_path / "31337.json").exists()


def test_deploy__not_enough_gas_money__told_before_anything_is_sent(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, 7)
    fresh.set_balance(sender.address, 10**15)
    fresh.set_next_base_fee(10**9)
    fresh.mine()
    with pytest.raises(CommandError, match=r"holds 0.001 ETH and may need 0\.\d+ ETH for gas"):
        deploy(local_plan, artifacts, sender, tmp_path)
    assert not (tmp_path / "31337.json").exists()


def test_deploy__another_minter_was_named__refused_and_told(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    with pytest.MonkeyPatch.context() as patch:
        # All but the minter, the rewards, the court's client, the Jobs of Leases and the seal.
        patch.setattr(RpcPool, "broadcast", Kill(STEPS - 4, False).wrap(RpcPool.broadcast))
        with pytest.raises(Killed):
            deploy(local_plan, artifacts, sender, tmp_path)
    half = registries.load(tmp_path, 31337)
    assert half is not None
    call = artifacts["Token"].abi.encode("set_minter", sender.address)
    fresh.wait(fresh.send(sender.address, half.address("Token"), call))
    with pytest.raises(CommandError, match="minter Emissions: the contract refuses: token: minter"):
        deploy(local_plan, artifacts, sender_of(fresh, DEPLOYER), tmp_path)
    assert ("Token", "minter") in wrong(local_plan, half, artifacts, sender)


def test_load__damaged_registry__one_line(tmp_path: Path) -> None:
    (tmp_path / "5.json").write_text("{")
    with pytest.raises(CommandError, match="cannot be read"):
        registries.load(tmp_path, 5)
