# SPDX-License-Identifier: Apache-2.0
"""The steps of a plan as transactions: what each one sends, and what it would create."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth_typing import HexAddress, HexStr
from web3.types import Nonce
from web3.utils.address import get_create_address

from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan, Step, encode_arguments
from teraproof.market.chain import Chain
from teraproof.market.sending import Call
from teraproof.rpc.decode import hex_bytes

#: Sends a transaction and waits for it: label, to (None creates a contract), data. Returns the
#: address of what was created, "" for a call.
Send = Callable[[str, str | None, bytes], str]


def transaction(
    plan: Plan, artifacts: Mapping[str, Artifact], step: Step, addresses: Mapping[str, str]
) -> Call:
    """What a step sends; `addresses` as for `Plan.resolve`."""
    artifact = artifacts[step.contract]
    if step.function is None:
        arguments = plan.resolve(step.contract, addresses)
        data = artifact.init_code + encode_arguments(artifact, arguments)
        return Call(step.name, None, data)
    given: list[object] = [] if step.subject is None else [addresses[step.subject]]
    if step.manager is not None:
        given.append(step.manager.permissions)
    data = artifact.abi.encode(step.function, *given)
    return Call(step.name, addresses[step.contract], data)


def contract_address(sender: str, nonce: int) -> str:
    """The address of the contract that this transaction creates."""
    return str(get_create_address(HexAddress(HexStr(sender)), Nonce(nonce)))


def created_code(
    chain: Chain, sender: str, data: bytes, overrides: dict[str, Any] | None = None
) -> bytes:
    """The code that a constructor returns, without sending it. Raises Reverted, RpcError."""
    parameters: list[Any] = [{"from": sender, "data": "0x" + data.hex()}, "latest"]
    if overrides:
        parameters.append(overrides)
    found: bytes = chain.pool.call("eth_call", parameters, read=hex_bytes)
    return found


def shown(plan: Plan, step: Step, addresses: Mapping[str, str]) -> str:
    """A step's arguments as the plan's file has them, with units; names with their addresses."""
    if step.manager is not None:
        return f"{step.manager.contract}: {', '.join(step.manager.names)}"
    if step.function is not None:
        return step.subject or ""
    written = plan.written[step.contract]
    resolved = plan.resolve(step.contract, addresses)
    return "\n".join(
        f"{name} = {readable(written[name], value)}" for name, value in resolved.items()
    )


def readable(written: Any, value: Any) -> str:
    """A value as the plan's file has it, with its unit; of a name the address, too."""
    if isinstance(value, list):
        return ", ".join(readable(*pair) for pair in zip(written, value, strict=True)) or "none"
    if isinstance(written, str) and written.startswith("$"):
        return f"{value} ({written[1:]})"
    return str(written)


class Rollout:
    """A plan on a chain of a test or a measurement: sent at once, nothing is recorded.

    `addresses` holds `deployer` and what was deployed so far.
    """

    def __init__(
        self, plan: Plan, artifacts: Mapping[str, Artifact], deployer: str, send: Send
    ) -> None:
        self._plan, self._artifacts, self._send = plan, artifacts, send
        self.addresses: dict[str, str] = {"deployer": deployer}
        if plan.token is not None:
            self.addresses["PaymentToken"] = plan.token.address

    def deploy(self) -> None:
        """Every contract."""
        for step in self._plan.steps():
            if step.function is None:
                self.addresses[step.contract] = self._carry_out(step)

    def wire(self, managers: Mapping[str, int] | None = None) -> None:
        """Name the managers, further ones by their addresses as well, and the minter; seal."""
        for step in self._plan.steps():
            if step.function == "seal":
                for manager, permissions in (managers or {}).items():
                    setup = self._artifacts["Staking"].abi.encode(
                        "setup_manager", manager, permissions
                    )
                    self._send(f"manager {manager}", self.addresses["Staking"], setup)
            if step.function is not None:
                self._carry_out(step)

    def _carry_out(self, step: Step) -> str:
        call = transaction(self._plan, self._artifacts, step, self.addresses)
        return self._send(call.label, call.to, call.data)
