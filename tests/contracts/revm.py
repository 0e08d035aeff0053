# SPDX-License-Identifier: Apache-2.0
"""The suite on revm: a hundred times the speed of titanoboa, for tests that send many transactions.

Contracts stand at addresses that follow from their names, whatever was deployed before. Blocks are
made here, headers and all. revm answers BLOCKHASH with a made-up word for the last 256 blocks, so
every block made here is that far behind the next one, where contracts read the EIP-2935 history.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import boa
from eth_abi.abi import decode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env
from vyper.compiler.output import build_abi_output, build_layout_output

from teraproof.headers import HISTORY
from tests.contracts.codec import Event, Function
from tests.contracts.deploy import compiled_by_boa
from tests.contracts.headers import HISTORY_CODE, HISTORY_REACH

ERROR_SELECTOR = keccak(text="Error(string)")[:4]
OUTPUT = re.compile(r"^Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}")
STATIC_SENDER = "0x" + "00" * 19 + "01"

SPACING = 257  # blocks from one made here to the next

# A planted fault or a mutant may be larger than a chain would take; `make size` holds the sizes.
CODE_LIMIT = 2**16


@dataclass(frozen=True)
class Outcome:
    """What a transaction returned, or why it reverted."""

    value: Any
    reason: str | None


@dataclass(frozen=True)
class Log:
    """An event as the machine recorded it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of one source."""

    initcode: bytes
    functions: dict[tuple[str, int], Function]
    events: dict[bytes, Event]
    constructor: Function | None
    layout: dict[str, Any]
    """Storage slots by the names of modules and variables."""

    def slot(self, path: str, *keys: bytes) -> int:
        """Where a variable lies, `ledger.credits`; keys of mappings as words."""
        found: Any = self.layout
        for name in path.split("."):
            found = found[name]
        slot: int = found["slot"]
        for key in keys:
            slot = int.from_bytes(keccak(slot.to_bytes(32, "big") + key), "big")
        return slot


@cache
def compiled(name: str) -> Compiled:
    """`contracts/<name>.vy`, from the same compiler run as titanoboa's."""
    data = compiled_by_boa(name).compiler_data
    abi = build_abi_output(data)
    functions = [Function(entry) for entry in abi if entry["type"] == "function"]
    events = [Event(entry) for entry in abi if entry["type"] == "event"]
    made = [Function(entry) for entry in abi if entry["type"] == "constructor"]
    return Compiled(
        bytes(data.bytecode),
        {(f.name, len(f.inputs)): f for f in functions},
        {e.topic: e for e in events},
        made[0] if made else None,
        build_layout_output(data).get("storage_layout", {}),
    )


@cache
def reason_of(output: str) -> str:
    """The revert reason in raw output."""
    data = bytes.fromhex(output)
    if data[:4] == ERROR_SELECTOR:
        return str(decode(["string"], data[4:])[0])
    return f"no reason: {output}"


@dataclass(frozen=True)
class Deployer:
    """Stands where titanoboa's deployer would; `boa.env.prank` names the sender."""

    chain: Revm
    name: str

    def deploy(self, *args: Any) -> Handle:
        plain = [getattr(arg, "address", arg) for arg in args]
        return self.chain.deploy(self.name, *plain, sender=str(boa.env.eoa))


class Handle:
    """A deployed contract with the few habits of titanoboa's that deployment needs."""

    def __init__(self, chain: Revm, name: str, address: str) -> None:
        self.chain, self.name, self.address = chain, name, address

    def __getattr__(self, function: str) -> Callable[..., Any]:
        def call(*args: Any, sender: str = STATIC_SENDER) -> Any:
            done = self.chain.send(self.name, function, args, sender)
            assert done.reason is None, f"{self.name}.{function}{args}: {done.reason}"
            return done.value

        return call


class Revm:
    """Contracts by name on one machine."""

    def __init__(self, time: int) -> None:
        self.evm = EVM(Env(CfgEnv(limit_contract_code_size=CODE_LIMIT)), spec_id="PRAGUE")
        self.addresses: dict[str, str] = {}
        self.contracts: dict[str, Compiled] = {}
        self.events: dict[str, dict[bytes, Event]] = {}
        self.journal: list[tuple[Any, ...]] | None = None
        """What happened, in words that another machine can repeat; kept if it is a list."""
        self.sent = 0
        self.reverted = 0
        self._calls: dict[tuple[str, str, int], tuple[str, Function]] = {}
        self.evm.insert_account_info(HISTORY, AccountInfo(nonce=1, code=HISTORY_CODE))
        self.number = 10_000
        self.prevrandao = bytes(32)
        self._time = time
        self._set_block()

    # ------------------------------------------------------------------------------- blocks

    @property
    def now(self) -> int:
        """The time of the next transaction, unix seconds."""
        return self._time

    @now.setter
    def now(self, time: int) -> None:
        assert time >= self._time, "time does not run back"
        if time != self._time:
            self.set_block(time, self.number + SPACING)

    def set_block(self, time: int, number: int) -> None:
        """What the next transactions see; the caller answers for the order of things."""
        self._time, self.number = time, number
        self._set_block()
        if self.journal is not None:
            self.journal.append(("block", time, number))

    def _set_block(self) -> None:
        self.evm.set_block_env(
            BlockEnv(number=self.number, timestamp=self._time, prevrandao=self.prevrandao)
        )

    def remember(self, number: int, block_hash: bytes) -> None:
        """Put a block's hash into the history; it can be read SPACING blocks later."""
        value = int.from_bytes(block_hash, "big")
        if self.journal is not None:
            self.journal.append(("hash", number % HISTORY_REACH, value))
        self.evm.insert_account_storage(HISTORY, number % HISTORY_REACH, value)

    def snapshot(self) -> Any:
        kept = self.evm.snapshot(), self._time, self.number
        if self.journal is not None:
            self.journal.append(("keep", id(kept[0]), kept[0]))
        return kept

    def revert(self, kept: Any) -> None:
        checkpoint, time, number = kept
        self.evm.revert(checkpoint)
        if self.journal is not None:
            self.journal.append(("undo", id(checkpoint)))
        self.set_block(time, number)

    # ---------------------------------------------------------------------------- contracts

    def deploy(self, name: str, *args: Any, sender: str = STATIC_SENDER, alias: str = "") -> Handle:
        """Run the constructor of `contracts/<name>.vy`; `alias` names it among the contracts."""
        return self.place(compiled(name), alias or name, args, sender)

    def place(self, made: Compiled, alias: str, args: Sequence[Any], sender: str) -> Handle:
        """Run a constructor; the sender's nonce follows from the contract's name."""
        assert alias not in self.addresses, f"{alias} stands already"
        packed = made.constructor.arguments(args) if made.constructor else b""
        nonce = int.from_bytes(keccak(text=alias)[:3], "big")
        self.evm.insert_account_info(sender, AccountInfo(nonce=nonce))
        # A contract deployed is analysed once; one inserted, at every call.
        address = self.evm.deploy(sender, made.initcode + packed)
        self.evm.reset_transient_storage()
        return self.know(made, alias, str(to_checksum_address(address)))

    def know(self, made: Compiled, alias: str, address: str) -> Handle:
        self.addresses[alias], self.contracts[alias] = address, made
        self.events[address.lower()] = made.events
        for (name, count), function in made.functions.items():
            self._calls[alias, name, count] = address, function
        return Handle(self, alias, address)

    def deployer(self, name: str) -> Deployer:
        """For `deploy.deployed_by`."""
        return Deployer(self, name)

    # -------------------------------------------------------------------------------- calls

    def send(self, contract: str, name: str, args: Sequence[Any], sender: str) -> Outcome:
        """Execute a transaction; a revert is an outcome, not an error."""
        address, function = self._calls[contract, name, len(args)]
        output, failed = self.raw(address, function.data(args), sender)
        if failed is None:
            return Outcome(function.value(output), None)
        return Outcome(None, reason_of(failed))

    def raw(self, address: str, data: bytes, sender: str) -> tuple[bytes, str | None]:
        """A transaction as bytes: what it returned, or its revert data in hex."""
        evm = self.evm
        self.sent += 1
        try:
            output = evm.message_call(sender, address, data)
        except RuntimeError as error:
            evm.reset_transient_storage()
            self.reverted += 1
            found = OUTPUT.match(str(error))
            assert found, f"the machine halted: {error}"
            self._note(address, data, sender, False, bytes.fromhex(found[1]))
            return b"", found[1]
        evm.reset_transient_storage()
        self._note(address, data, sender, True, output)
        return output, None

    def _note(self, address: str, data: bytes, sender: str, done: bool, output: bytes) -> None:
        if self.journal is not None:
            self.journal.append(("call", address, data, sender, done, output, self.logs()))

    def logs(self) -> list[Log]:
        """What the last transaction logged; nothing if it reverted."""
        result = self.evm.result
        if result is None or not result.is_success:
            return []
        return [
            Log(
                to_checksum_address(log.address),
                tuple(bytes.fromhex(topic.removeprefix("0x")) for topic in log.topics),
                bytes(log.data[1]),
            )
            for log in result.logs
        ]

    def happened(self) -> list[tuple[str, dict[str, Any]]]:
        """The events of the last transaction that the contracts' interfaces know."""
        found = []
        for log in self.logs():
            event = self.events.get(log.address.lower(), {}).get(log.topics[0])
            if event:
                found.append((event.name, event.read(log.topics, log.data)))
        return found

    def view(self, contract: str, name: str, *args: Any) -> Any:
        """Read; a revert fails the test."""
        address, function = self._calls[contract, name, len(args)]
        try:
            output = self.evm.message_call(
                STATIC_SENDER, address, function.data(args), is_static=True
            )
        except RuntimeError as error:
            raise AssertionError(f"{contract}.{name}{args}: {error}") from error
        finally:
            self.evm.reset_transient_storage()
        return function.value(output)

    def rename(self, handle: Handle, alias: str) -> None:
        """Know a contract by another name too."""
        self.know(self.contracts[handle.name], alias, handle.address)

    def slot(self, contract: str, path: str, *keys: bytes) -> tuple[str, int]:
        """Address and slot of a variable."""
        return self.addresses[contract], self.contracts[contract].slot(path, *keys)

    def call_data(self, contract: str, name: str, *args: Any) -> tuple[str, bytes]:
        """A call as address and bytes, to be kept and made again."""
        address, function = self._calls[contract, name, len(args)]
        return address, function.data(args)
