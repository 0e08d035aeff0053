# SPDX-License-Identifier: Apache-2.0
"""Transactions and calls straight into the virtual machine, counted.

Stateful tests send a hundred thousand transactions and compare every revert reason, so they read
the raw return data instead of the annotated errors of a titanoboa contract.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import boa
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.contracts.deploy import Contract, Suite

ERROR_SELECTOR = keccak(text="Error(string)")[:4]

# Contracts by their names in `Suite`.
CONTRACTS = ("token", "payment", "staking", "jobs", "scores", "benchmark", "emissions")

# What this session really executed; the terminal summary prints it.
EXECUTED: Counter[str] = Counter()


def abi_type(entry: dict[str, Any]) -> str:
    """The type string of an ABI entry, structs written out as tuples."""
    kind: str = entry["type"]
    if kind.startswith("tuple"):
        return f"({','.join(map(abi_type, entry['components']))}){kind.removeprefix('tuple')}"
    return kind


@dataclass(frozen=True)
class Function:
    """How to call one function."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def data(self, args: tuple[Any, ...]) -> bytes:
        return self.selector + encode(self.inputs, args)

    def value(self, output: bytes) -> Any:
        values = [
            to_checksum_address(value) if kind == "address" else value
            for kind, value in zip(self.outputs, decode(self.outputs, output), strict=True)
        ]
        return values[0] if len(values) == 1 else tuple(values) or None


@dataclass(frozen=True)
class Outcome:
    """What a transaction returned, or why it reverted."""

    value: Any
    reason: str | None


class Chain:
    """The deployed suite behind `send` and `view`, contracts by their names in `Suite`."""

    def __init__(self, suite: Suite) -> None:
        self.addresses: dict[str, str] = {}
        self._functions: dict[tuple[str, str, int], Function] = {}
        for name in CONTRACTS:
            contract = getattr(suite, name)
            if contract is not None:
                self.add(name, contract)

    def add(self, name: str, contract: Contract) -> None:
        """Make a contract known under a name."""
        self.addresses[name] = str(contract.address)
        for entry in contract.abi:
            if entry["type"] != "function":
                continue
            inputs = tuple(abi_type(part) for part in entry["inputs"])
            outputs = tuple(abi_type(part) for part in entry["outputs"])
            signature = f"{entry['name']}({','.join(inputs)})"
            self._functions[name, entry["name"], len(inputs)] = Function(
                keccak(text=signature)[:4], inputs, outputs
            )

    @property
    def now(self) -> int:
        """The time of the next transaction, unix seconds."""
        return int(boa.env.evm.patch.timestamp)

    @now.setter
    def now(self, time: int) -> None:
        assert time >= self.now, "time does not run back"
        boa.env.evm.patch.timestamp = time

    def send(self, contract: str, name: str, args: tuple[Any, ...], sender: str) -> Outcome:
        """Execute a transaction; a revert is an outcome, not an error."""
        function = self._functions[contract, name, len(args)]
        done = boa.env.execute_code(
            to_address=self.addresses[contract], sender=sender, data=function.data(args)
        )
        EXECUTED["transactions"] += 1
        if not done.is_error:
            return Outcome(function.value(done.output), None)
        EXECUTED["reverted"] += 1
        output = bytes(done.output)
        if output[:4] == ERROR_SELECTOR:
            return Outcome(None, decode(["string"], output[4:])[0])
        return Outcome(None, f"no reason: {output.hex()}")

    def view(self, contract: str, name: str, *args: Any) -> Any:
        """Read; a revert fails the test."""
        function = self._functions[contract, name, len(args)]
        done = boa.env.execute_code(
            to_address=self.addresses[contract], data=function.data(args), is_modifying=False
        )
        assert not done.is_error, f"{contract}.{name}{args} reverted: {done.error!r}"
        return function.value(done.output)
