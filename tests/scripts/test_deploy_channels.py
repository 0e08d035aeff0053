# SPDX-License-Identifier: Apache-2.0
"""Payment channels of a deployment: placed on a local chain, looked for on a public one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.deployment import channels
from scripts.deployment import plan as plans
from scripts.deployment.channels import PLACES
from scripts.deployment.checks import check_network
from scripts.deployment.plan import Plan
from teraproof.errors import CommandError
from teraproof.protocol.channels import CHANNELS, COLLECTOR, ChannelConfig, channel_id
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.scripts.deploying import DEPLOYER, Artifacts, wrong
from tests.support.anvil import Anvil, AnvilError

SLOT_OF_A_MAP = "0x" + "00" * 31 + "01"


def code_at(anvil: Anvil, address: str) -> str:
    return str(anvil.rpc("eth_getCode", address, "latest"))


def test_place__local_chain__is_the_code_of_a_deployed_instance(
    fresh: Anvil, artifacts: Artifacts
) -> None:
    channels.place(lambda method, parameters: fresh.rpc(method, *parameters), artifacts)
    sender = fresh.accounts[DEPLOYER].address
    for name, address in PLACES.items():
        argument = b"" if name == "Channels" else bytes.fromhex(CHANNELS[2:]).rjust(32, b"\0")
        data = (artifacts[name].init_code + argument).hex()
        sent = fresh.rpc("eth_sendTransaction", {"from": sender, "data": "0x" + data})
        assert code_at(fresh, address) == code_at(fresh, fresh.wait(sent)["contractAddress"])


def test_deploy__local_plan__channels_know_their_own_address(
    fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, ui = deploy(local_plan, artifacts, sender, tmp_path)
    assert {name: registry.address(name) for name in PLACES} == PLACES
    contract, pool = artifacts["Channels"], sender.chain.pool
    config = ChannelConfig(
        CHANNELS, sender.address, COLLECTOR, sender.address, CHANNELS, 86_400, bytes(32)
    )
    answer = pool.eth_call(
        CHANNELS, contract.abi.encode("getChannelId", config.abi_tuple()), "latest"
    )
    assert answer == channel_id(31_337, config)
    collector = artifacts["ERC3009DepositCollector"]
    assert collector.read(pool, COLLECTOR, "x402BatchSettlement") == CHANNELS
    told = "\n".join(ui.lines)
    assert f"Channels at {CHANNELS}, placed" in told
    # Nothing is placed twice: what is in the channels stays.
    fresh.rpc("anvil_setStorageAt", CHANNELS, SLOT_OF_A_MAP, "0x" + "07".rjust(64, "0"))
    deploy(local_plan, artifacts, sender, tmp_path)
    assert int(fresh.rpc("eth_getStorageAt", CHANNELS, SLOT_OF_A_MAP, "latest"), 16) == 7


@pytest.mark.parametrize("name", PLACES)
def test_verify__other_code_at_the_place__told(
    name: str, fresh: Anvil, local_plan: Plan, artifacts: Artifacts, tmp_path: Path
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)
    code = bytearray.fromhex(code_at(fresh, PLACES[name])[2:])
    code[-1] ^= 1
    fresh.rpc("anvil_setCode", PLACES[name], "0x" + code.hex())
    assert wrong(local_plan, registry, artifacts, sender) == [(name, "code")]


def saying(word: str, write_plan: Callable[..., Path], artifacts: Artifacts) -> Plan:
    return plans.load(write_plan(lambda plan: plan.update(channels=word)), artifacts)


def test_deploy__canonical__x402s_contracts_are_looked_for_and_left_alone(
    fresh: Anvil, artifacts: Artifacts, tmp_path: Path, write_plan: Callable[..., Path]
) -> None:
    plan, sender = saying("canonical", write_plan, artifacts), sender_of(fresh, DEPLOYER)
    for name, address in PLACES.items():
        fresh.rpc("anvil_setCode", address, "0x")
        with pytest.raises(CommandError, match=rf"x402's {name} is not at {address} on chain"):
            check_network(plan, sender.chain)
        fresh.rpc("anvil_setCode", address, "0x00")
    with pytest.raises(CommandError, match=rf"{CHANNELS} is not x402's contract on chain 31337"):
        check_network(plan, sender.chain)
    channels.place(lambda method, parameters: fresh.rpc(method, *parameters), artifacts)
    # Another implementation behind the same digests: code that nobody here has compiled.
    other = code_at(fresh, CHANNELS) + "00"
    fresh.rpc("anvil_setCode", CHANNELS, other)
    registry, ui = deploy(plan, artifacts, sender, tmp_path)
    assert code_at(fresh, CHANNELS) == other
    assert registry.contracts["Channels"].bytecode_sha256 is None
    assert f"Channels at {CHANNELS}, x402's own" in "\n".join(ui.lines)
    fresh.rpc("anvil_setCode", CHANNELS, other + "00")
    assert wrong(plan, registry, artifacts, sender) == [("Channels", "code")]


def test_deploy__none__no_channels_and_nothing_placed(
    fresh: Anvil, artifacts: Artifacts, tmp_path: Path, write_plan: Callable[..., Path]
) -> None:
    plan, sender = saying("none", write_plan, artifacts), sender_of(fresh, DEPLOYER)
    registry, _ = deploy(plan, artifacts, sender, tmp_path)
    assert not set(PLACES) & set(registry.contracts)
    assert {code_at(fresh, address) for address in PLACES.values()} == {"0x"}


def test_check_network__place_on_a_public_chain__refused(artifacts: Artifacts) -> None:
    plan = plans.load(Path("deployments/params/local.yaml"), artifacts)
    why = "channels: only a local chain lets code be placed"
    with Anvil(11155111, accounts=1) as anvil, pytest.raises(CommandError, match=why):
        channels.check(plan.source, plan.channels, chain_of(anvil))


def test_deploy__node_that_lets_no_code_be_placed__one_line(
    fresh: Anvil,
    local_plan: Plan,
    artifacts: Artifacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = sender_of(fresh, DEPLOYER)
    pool, asked = sender.chain.pool, sender.chain.pool.call

    def call(method: str, *arguments: Any, **options: Any) -> Any:
        return asked(method.replace("anvil_setCode", "other_setCode"), *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pool, "call", call)
        with pytest.raises(CommandError, match=r"lets no code be placed .* use anvil, or write"):
            deploy(local_plan, artifacts, sender, tmp_path)
    registry, _ = deploy(local_plan, artifacts, sender, tmp_path)
    assert registry.complete is True


def test_anvil__place__raises_what_the_node_says(fresh: Anvil, artifacts: Artifacts) -> None:
    def refusing(method: str, parameters: Any) -> Any:
        return fresh.rpc(method.replace("anvil_", "nobody_"), *parameters)

    with pytest.raises(AnvilError, match="nobody_setCode"):
        channels.place(refusing, artifacts)
