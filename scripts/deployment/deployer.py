# SPDX-License-Identifier: Apache-2.0
"""Carries out a plan, one recorded transaction at a time.

Each transaction is signed, written to the registry, and only then broadcast. Whatever moment the
process dies at, the next run knows hash, nonce and contract address of what may be on its way,
and finishes that before it sends anything else: nothing is deployed twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from scripts.deployment import channels
from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan, Step
from scripts.deployment.transactions import contract_address, created_code, shown, transaction
from teraproof.amounts import show_ether
from teraproof.contracts.staking import StakingContract
from teraproof.errors import CommandError, WrongInput, counted
from teraproof.market.registry import (
    Deployed,
    Done,
    Pending,
    Registry,
    missing_code,
    path_of,
    save,
)
from teraproof.market.sending import Call, Sender, Signed
from teraproof.market.ui import Ui
from teraproof.rpc.errors import Reverted, RpcError
from teraproof.rpc.fees import Offer, gas_limit
from teraproof.rpc.types import Receipt

# What a step costs when the node cannot simulate it on code that is not there yet.
_GAS_GUESS_CALL = 100_000
_GAS_PER_BYTE = 220
_GAS_BASE = 600_000


@dataclass(frozen=True)
class Estimate:
    """What a step will do and cost, as far as is known before the first is sent."""

    step: Step
    address: str
    """Of the contract that the step creates or calls."""
    gas: int


class Deployment:
    """One plan on one chain, from wherever it stands to the end."""

    def __init__(
        self,
        plan: Plan,
        artifacts: Mapping[str, Artifact],
        sender: Sender,
        folder: Path,
        ui: Ui,
        registry: Registry | None = None,
    ) -> None:
        self.plan = plan
        self.artifacts = artifacts
        self.sender = sender
        self.chain = sender.chain
        self.folder = folder
        self.ui = ui
        self._begun = registry is not None
        self.registry = registry or Registry(
            chain_id=self.chain.chain_id,
            network=self.chain.name,
            genesis=self.chain.genesis(),
            deployer=sender.address,
            plan_sha256=plan.sha256,
        )
        if self.registry.deployer != sender.address:
            raise WrongInput(
                f"the deployment was begun by {self.registry.deployer}, not by {sender.address}; "
                "go on with that account"
            )

    # ------------------------------------------------------------------ before

    def remaining(self) -> list[Step]:
        """Steps that are not recorded as done."""
        return [
            step
            for step in self.plan.steps()
            if step.name
            not in (self.registry.contracts if step.function is None else self.registry.calls)
        ]

    def estimate(self) -> list[Estimate]:
        """Simulate what remains, each step on the code that the steps before it will leave.

        CommandError when a contract would refuse its arguments or a step does not fit a block.
        """
        nonce = self.chain.pool.nonce(self.sender.address)
        limit = self.chain.gas_limit()
        addresses = self._addresses()
        overrides: dict[str, Any] = {}
        found = []
        for step in self.remaining():
            if step.function is None:
                address = contract_address(self.sender.address, nonce)
                pending = self.registry.pending
                if pending is not None and pending.step == step.name and pending.address:
                    address = pending.address
                addresses[step.contract] = address
            call = transaction(self.plan, self.artifacts, step, addresses)
            # The nonce decides the address that the constructor sees as its own.
            overrides[self.sender.address] = {"nonce": hex(nonce)}
            gas, code = self._simulate(step, call, overrides)
            if step.function is None and code is not None:
                overrides[addresses[step.contract]] = {"code": "0x" + code.hex()}
            if gas > limit:
                raise CommandError(
                    f"{step.name}: needs {gas:,} gas, more than a block of this chain ({limit:,})"
                )
            found.append(Estimate(step, addresses[step.contract], gas))
            nonce += 1
        return found

    def cost(self, estimates: Sequence[Estimate]) -> int:
        """Wei that the deployer must hold: what may be paid if the base fee doubles."""
        gas = sum(gas_limit(item.gas) for item in estimates)
        return gas * self.sender.offer().max_fee

    def check_funds(self, estimates: Sequence[Estimate]) -> None:
        """CommandError when the deployer cannot pay for all that remains."""
        self.sender.check_balance(self.cost(estimates), "deployment")

    def show(self, estimates: Sequence[Estimate]) -> None:
        """Tell what will be sent."""
        created = {i.step.contract: i.address for i in estimates if i.step.function is None}
        known = {**self._addresses(), **created}
        rows = [
            (item.step.name, item.address, f"{item.gas:,}", shown(self.plan, item.step, known))
            for item in estimates
        ]
        title = (
            f"{self.plan.source} on {self.chain.name} (chain {self.chain.chain_id}), "
            f"by {self.sender.address}"
        )
        self.ui.table(title, ("step", "address", "gas", "arguments"), rows)
        total = sum(item.gas for item in estimates)
        cost = self.cost(estimates)
        most = f"at most {show_ether(cost, self.chain.symbol)}" if cost else "which is free here"
        sent = counted(len(estimates), "transaction")
        self.ui.note(f"{sent}, about {total:,} gas, {most}")

    # ------------------------------------------------------------------ doing

    def run(self) -> Registry:
        """Send what remains and wait until the chain has confirmed it."""
        if not self._begun:
            if self.plan.token is not None:
                self.registry.contracts["PaymentToken"] = Deployed(address=self.plan.token.address)
            save(self.folder, self.registry)
        elif self.remaining():
            done = len(self.plan.steps()) - len(self.remaining())
            self.ui.note(f"going on after {done} steps")
        self.settle()
        for step in self.remaining():
            self._carry_out(step)
        self._place_channels()
        self._confirm()
        return self.registry

    def _place_channels(self) -> None:
        """No transaction is sent for them, so a run that was interrupted does it again."""
        found = channels.settle(self.plan.source, self.plan.channels, self.artifacts, self.chain)
        self.registry.contracts.update(found)
        save(self.folder, self.registry)
        for name, one in found.items():
            whose = "placed" if self.plan.channels == channels.PLACED else "x402's own"
            self.ui.step(f"{name} at {one.address}, {whose}")

    def finish(self) -> None:
        """Mark the deployment as verified."""
        self.registry.complete = True
        save(self.folder, self.registry)

    def _carry_out(self, step: Step) -> None:
        pending = self.registry.pending
        if pending is not None and pending.step != step.name:
            raise CommandError(
                f"{path_of(self.folder, self.chain.chain_id)}: {pending.step} is under way, but "
                f"{step.name} comes first; restore the file from git"
            )
        if pending is not None:
            self._push(step, pending)
        elif step.function is not None and self._is_done(step):
            self._record_call(step, None)
        else:
            self._send(step)

    def _send(self, step: Step, nonce: int | None = None, instead_of: Offer | None = None) -> None:
        call = transaction(self.plan, self.artifacts, step, self._addresses())
        signed = self.sender.start(
            call,
            nonce=self.chain.pool.nonce(self.sender.address) if nonce is None else nonce,
            instead_of=instead_of,
            on_signed=lambda made: self._write_intent(step, made),
        )
        self._record(step, self.sender.wait(signed, 1))

    def _write_intent(self, step: Step, signed: Signed) -> None:
        before = self.registry.pending
        again = before is not None and before.nonce == signed.nonce
        creates = step.function is None
        self.registry.pending = Pending(
            step=step.name,
            nonce=signed.nonce,
            address=contract_address(self.sender.address, signed.nonce) if creates else None,
            hashes=[
                *(before.hashes if before is not None and again else []),
                "0x" + signed.tx_hash.hex(),
            ],
            raw="0x" + signed.raw.hex(),
            max_fee=signed.max_fee,
            tip=signed.tip,
        )
        save(self.folder, self.registry)

    def settle(self) -> None:
        """Record what became of the transaction of an interrupted run, if that is decided."""
        pending = self.registry.pending
        if pending is None:
            return
        (step,) = [item for item in self.plan.steps() if item.name == pending.step]
        receipt = self._mined(pending)
        if receipt is None:
            if self.chain.pool.nonce(self.sender.address) <= pending.nonce:
                return  # nowhere, or waiting
            # The nonce is used up. A node may know that before it knows the receipt.
            receipt = self._mined(pending, patience=3.0)
        if receipt is not None and receipt.status == 1:
            self._record(step, receipt)
        elif pending.address is not None and self._is_ours(step, pending.address):
            self._record_contract(step, pending.address, None)
        else:
            what = "another transaction used its nonce" if receipt is None else "it failed"
            self.ui.note(f"{step.name}: {what}; sending it again")
            self.registry.pending = None
            save(self.folder, self.registry)

    def _push(self, step: Step, pending: Pending) -> None:
        """Get a signed transaction mined that is nowhere, or waits."""
        before = Offer(pending.max_fee, pending.tip)
        if self.sender.offer().max_fee > 2 * before.max_fee:
            self.ui.note(f"{step.name}: the fee offered is too low by now; offering more")
            self._send(step, pending.nonce, before)
            return
        signed = Signed(
            label=step.name,
            nonce=pending.nonce,
            tx_hash=bytes.fromhex(pending.hashes[-1][2:]),
            raw=bytes.fromhex(pending.raw[2:]),
            max_fee=pending.max_fee,
            tip=pending.tip,
        )
        self.ui.note(f"{step.name}: waiting for the transaction of the interrupted run")
        self.sender.broadcast(signed)
        self._record(step, self.sender.wait(signed, 1))

    def _mined(self, pending: Pending, patience: float = 0.0) -> Receipt | None:
        end = time.monotonic() + patience
        while True:
            for known in pending.hashes:
                receipt = self.chain.pool.receipt(bytes.fromhex(known[2:]))
                if receipt is not None:
                    return receipt
            if time.monotonic() >= end:
                return None
            time.sleep(self.chain.poll_seconds)

    def _record(self, step: Step, receipt: Receipt) -> None:
        if step.function is not None:
            self._record_call(step, receipt)
            return
        assert self.registry.pending is not None  # written before the broadcast
        assert self.registry.pending.address is not None  # the step creates a contract
        self._record_contract(step, self.registry.pending.address, receipt)

    def _record_contract(self, step: Step, address: str, receipt: Receipt | None) -> None:
        artifact = self.artifacts[step.contract]
        code = self._code(address)
        # Without a receipt the block is not known; no log of the contract is older than this.
        earlier = [c.block for c in self.registry.contracts.values() if c.block is not None]
        block = max(earlier, default=0) if receipt is None else receipt.block_number
        self.registry.contracts[step.contract] = Deployed(
            address=address,
            arguments=self.plan.resolve(step.contract, self._addresses()),
            transaction=None if receipt is None else "0x" + receipt.tx_hash.hex(),
            block=block,
            compiler=artifact.compiler,
            bytecode_sha256=artifact.bytecode_hash,
            code_hash="0x" + keccak(code).hex(),
            gas_used=None if receipt is None else receipt.gas_used,
        )
        self.registry.pending = None
        save(self.folder, self.registry)
        gas = "" if receipt is None else f", {receipt.gas_used:,} gas"
        self.ui.step(f"{step.name} at {address}{gas}")

    def _record_call(self, step: Step, receipt: Receipt | None) -> None:
        self.registry.calls[step.name] = (
            Done()
            if receipt is None
            else Done(
                transaction="0x" + receipt.tx_hash.hex(),
                block=receipt.block_number,
                gas_used=receipt.gas_used,
            )
        )
        self.registry.pending = None
        save(self.folder, self.registry)
        gas = " (found done)" if receipt is None else f", {receipt.gas_used:,} gas"
        self.ui.step(f"{step.name}{gas}")

    def _confirm(self) -> None:
        blocks = [c.block for c in self.registry.contracts.values() if c.block is not None]
        blocks += [d.block for d in self.registry.calls.values() if d.block is not None]
        target = max(blocks, default=0) + self.chain.confirmations - 1
        end = time.monotonic() + self.chain.receipt_seconds
        while self.chain.head().number < target:
            if time.monotonic() > end:
                raise CommandError(
                    f"block {target} has not come after {self.chain.receipt_seconds:.0f} s; "
                    "run the same command again later"
                )
            time.sleep(self.chain.poll_seconds)
        gone = missing_code(self.registry, self.chain)
        if gone is not None:
            raise CommandError(f"{gone} has vanished: the chain was reset; run the command again")

    # ------------------------------------------------------------------ helpers

    def _addresses(self) -> dict[str, str]:
        known = {name: contract.address for name, contract in self.registry.contracts.items()}
        if self.plan.token is not None:
            known["PaymentToken"] = self.plan.token.address
        return {"deployer": self.sender.address, **known}

    def _simulate(
        self, step: Step, call: Call, overrides: dict[str, Any]
    ) -> tuple[int, bytes | None]:
        """Gas of a step, and the code that it creates."""
        code = None
        try:
            if call.to is None:
                code = created_code(self.chain, self.sender.address, call.data, overrides)
            return self.sender.estimate(call, overrides), code
        except Reverted as error:
            raise CommandError(f"{step.name}: the contract refuses: {error.reason}") from None
        except RpcError:
            # The node does not simulate on overridden state; the step itself will tell.
            guess = _GAS_BASE + _GAS_PER_BYTE * len(call.data)
            return (guess if call.to is None else _GAS_GUESS_CALL), code

    def _is_done(self, step: Step) -> bool:
        """Whether a set-up call has taken effect, by a transaction that was lost sight of."""
        name, pool = step.contract, self.chain.pool
        address = self.registry.address(name)
        if step.view is not None:
            wanted = True if step.subject is None else self.registry.address(step.subject)
            return bool(self.artifacts[name].read(pool, address, step.view) == wanted)
        assert step.manager is not None and step.subject is not None  # no other call has no view
        subject = self.registry.address(step.subject)
        known = StakingContract(pool, address).manager_of(subject, "latest")
        return known.permissions == step.manager.permissions

    def _is_ours(self, step: Step, address: str) -> bool:
        runtime = self.artifacts[step.contract].runtime
        return self.chain.pool.code(address)[: len(runtime)] == runtime

    def _code(self, address: str) -> bytes:
        """The code at an address; a node behind a load balancer may need a moment."""
        end = time.monotonic() + 10
        while True:
            code = self.chain.pool.code(address)
            if code or time.monotonic() > end:
                return code
            time.sleep(self.chain.poll_seconds)
