# SPDX-License-Identifier: Apache-2.0
"""titanoboa on two machines: revm executes, py-evm explains.

py-evm executes an opcode in microseconds of Python, revm in nanoseconds. The state lies in revm.
py-evm works on the same state where revm does not say enough: the line of source that refused, a
trace of what ran, hashes of blocks that a test has made up, another chain id, an address of a
test's choice, a limit of gas. A refusal that a test looks at runs on both, and they must agree
in each byte of it; test_revm.py compares them on transactions of every kind.

TERAPROOF_EVM=py-evm leaves titanoboa as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import boa
from boa.util.abi import Address
from boa.vm.py_evm import PyEVM
from eth._utils.address import generate_contract_address
from eth.exceptions import Revert
from eth_utils.crypto import keccak
from pyrevm import EVM, AccountInfo, BlockEnv, CfgEnv, Env

from tests.contracts.hash_readers import hash_readers

MACHINE = "TERAPROOF_EVM"
CODE_LIMIT = 24_576
CHAIN_ID = 1
# Takes words from its calldata, a slot and a value each, and stores them.
STORE = bytes.fromhex("5f5b8036111560175780602001358135556040016001565b00")
REVERT = re.compile(r"^Revert \{ gas_used: \d+, output: 0x([0-9a-f]*) \}")
PADDING = bytes(33)
NOBODY = "0x" + "ff" * 20


class Done:
    """A call that went through on revm, as titanoboa reads a computation of py-evm."""

    is_error = False
    error = None
    children = beneficiaries = ()

    def __init__(self, meter: type, data: bytes, output: bytes, result: Any) -> None:
        self._gas_meter_class = meter
        self._data = data
        self.output = output
        self._result = result

    def get_gas_used(self) -> int:
        """Without what the transaction costs in itself, and before refunds."""
        used = int(self._result.gas_used + self._result.gas_refunded)
        return used - 21_000 - 16 * len(self._data) + 12 * self._data.count(0)

    def get_raw_log_entries(self) -> list[tuple[int, bytes, tuple[int, ...], bytes]]:
        return [
            (
                number,
                bytes.fromhex(log.address[2:]),
                tuple(int(topic, 16) for topic in log.topics),
                bytes(log.data[1]),
            )
            for number, log in enumerate(self._result.logs)
        ]


class Refused:
    """A call that reverted on revm. What else titanoboa asks of it, py-evm finds out again."""

    is_error = True

    def __init__(self, meter: type, output: bytes, again: Callable[[], Any]) -> None:
        self._gas_meter_class = meter
        self.output = output
        self.error = Revert(output)
        self._again = again

    def get_gas_used(self) -> int:
        """Nothing, for nobody asks."""
        return 0

    def get_raw_log_entries(self) -> list[Any]:
        return []

    @cached_property
    def _repeated(self) -> Any:
        repeated = self._again()
        assert repeated.is_error, "only revm refuses"
        assert repeated.output == self.output, (repeated.output, self.output)
        return repeated

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repeated, name)


class Overlay:
    """The accounts of revm for one call of py-evm, and what that call changes."""

    def __init__(self, machines: TwoMachines) -> None:
        self._machines = machines
        self.changed: dict[tuple[str, bytes, int], Any] = {}
        self._warm: set[tuple[bytes, int]] = set()
        self._undo: list[tuple[tuple[str, bytes, int], Any]] = []

    def _read(self, what: str, address: bytes, slot: int = 0) -> Any:
        found = self.changed.get((what, address, slot))
        return self._machines.read(what, address, slot) if found is None else found

    def write(self, what: str, address: bytes, value: Any, slot: int = 0) -> None:
        key = what, address, slot
        self._undo.append((key, self.changed.get(key)))
        self.changed[key] = value

    # What py-evm's states ask of accounts, in its own words.

    state_root = b""

    def record(self) -> int:
        return len(self._undo)

    def discard(self, checkpoint: int) -> None:
        while len(self._undo) > checkpoint:
            key, value = self._undo.pop()
            if value is None:
                del self.changed[key]
            else:
                self.changed[key] = value

    def commit(self, checkpoint: int) -> None:
        pass

    def get_storage(self, address: bytes, slot: int, from_journal: bool = True) -> int:
        if not from_journal:
            return int(self._machines.read("storage", address, slot))
        return int(self._read("storage", address, slot))

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        self.write("storage", address, value, slot)

    def get_balance(self, address: bytes) -> int:
        return int(self._read("balance", address))

    def set_balance(self, address: bytes, balance: int) -> None:
        self.write("balance", address, balance)

    def get_nonce(self, address: bytes) -> int:
        return int(self._read("nonce", address))

    def set_nonce(self, address: bytes, nonce: int) -> None:
        self.write("nonce", address, nonce)

    def increment_nonce(self, address: bytes) -> None:
        self.set_nonce(address, self.get_nonce(address) + 1)

    def get_code(self, address: bytes) -> bytes:
        return bytes(self._read("code", address))

    def set_code(self, address: bytes, code: bytes) -> None:
        self.write("code", address, code)

    def get_code_hash(self, address: bytes) -> bytes:
        return bytes(keccak(self.get_code(address)))

    def account_has_code_or_nonce(self, address: bytes) -> bool:
        return bool(self.get_nonce(address) or self.get_code(address))

    def account_exists(self, address: bytes) -> bool:
        return not self.account_is_empty(address)

    def account_is_empty(self, address: bytes) -> bool:
        return not (self.account_has_code_or_nonce(address) or self.get_balance(address))

    def touch_account(self, address: bytes) -> None:
        pass

    def is_storage_warm(self, address: bytes, slot: int) -> bool:
        return (address, slot) in self._warm

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        self._warm.add((address, slot))

    def is_address_warm(self, address: bytes) -> bool:
        return (address, -1) in self._warm

    def mark_address_warm(self, address: bytes) -> None:
        self._warm.add((address, -1))


class Transient:
    """The transient storage of one call, which is undone with all else."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay

    def get_transient_storage(self, address: bytes, slot: int) -> bytes:
        return bytes(self._overlay.changed.get(("transient", address, slot), b""))

    def set_transient_storage(self, address: bytes, slot: int, value: bytes) -> None:
        self._overlay.write("transient", address, value, slot)

    def record(self, checkpoint: int) -> None:
        pass

    commit = discard = record

    def clear(self) -> None:
        """Each call starts with none."""


class TwoMachines(PyEVM):  # type: ignore[misc]  # titanoboa has no types
    """Stands where titanoboa has its PyEVM."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        cfg = CfgEnv(chain_id=CHAIN_ID, limit_contract_code_size=CODE_LIMIT)
        self._revm = EVM(Env(cfg), spec_id="PRAGUE")
        self._block: tuple[Any, ...] = ()
        # Of accounts that people have; revm counts those of contracts.
        self._nonces: dict[bytes, int] = {}
        self._codes: dict[bytes, bytes] = {}
        self._undo: list[Callable[[], None]] = []
        self._changes = 0
        """Grows with each change of the state."""

    # ------------------------------------------------------------------------------- state

    def read(self, what: str, address: bytes, slot: int = 0) -> Any:
        """`storage`, `code`, `nonce` or `balance` of an account."""
        name = f"0x{address.hex()}"
        if what == "storage":
            return self._revm.storage(name, slot)
        if what == "code":
            return self._code(address)
        if what == "balance":
            return self._revm.get_balance(name)
        return self._nonces.get(address) or self._revm.basic(name).nonce

    def _code(self, address: bytes) -> bytes:
        found = self._codes.get(address)
        if found is None:
            name = f"0x{address.hex()}"
            found = bytes(self._revm.get_code(name) or b"")
            # Behind the last byte of code that has run, revm has zeros of its own.
            own, wanted = found[: -len(PADDING)], self._revm.basic(name).code_hash
            if found.endswith(PADDING) and keccak(own) == wanted:
                found = own
            if found:
                self._forget(self._codes, address)
                self._codes[address] = found
        return found

    def _forget(self, kept: dict[bytes, Any], address: bytes) -> None:
        """Let `kept` say of an account what it says now, after a return to an earlier snapshot."""
        was = kept.get(address)

        def undo() -> None:
            if was is None:
                kept.pop(address, None)
            else:
                kept[address] = was

        self._undo.append(undo)

    def _insert(self, address: bytes, code: bytes, nonce: int) -> None:
        name = f"0x{address.hex()}"
        balance = self._revm.get_balance(name)
        self._revm.insert_account_info(name, AccountInfo(nonce=nonce, code=code))
        if balance:
            self._revm.set_balance(name, balance)

    def _store(self, address: bytes, values: dict[int, int]) -> None:
        """Write slots by a transaction, for what is written past one is not undone with others."""
        name = f"0x{address.hex()}"
        info = self._revm.basic(name)
        self._revm.insert_account_info(name, AccountInfo(nonce=info.nonce, code=STORE))
        self._changes += 1
        words = b"".join(n.to_bytes(32, "big") for pair in values.items() for n in pair)
        self._revm.message_call(NOBODY, name, words)
        self._revm.insert_account_info(name, info)

    def get_balance(self, address: Any) -> int:
        return int(self.read("balance", address.canonical_address))

    def set_balance(self, address: Any, value: int) -> None:
        name, was = f"0x{address.canonical_address.hex()}", self.get_balance(address)
        self._undo.append(lambda: self._revm.set_balance(name, was))
        self._changes += 1
        self._revm.set_balance(name, value)

    def get_code(self, address: Any) -> bytes:
        return self._code(address.canonical_address)

    def set_code(self, address: Any, code: bytes) -> None:
        self._set_code(address.canonical_address, bytes(code))

    def _set_code(self, address: bytes, code: bytes) -> None:
        was, nonce = self._code(address), self.read("nonce", address)
        self._changes += 1
        self._undo.append(lambda: self._put_code(address, was, nonce))
        self._put_code(address, code, nonce)

    def _put_code(self, address: bytes, code: bytes, nonce: int) -> None:
        self._insert(address, code, nonce)
        self._codes[address] = code

    def _set_nonce(self, address: bytes, nonce: int) -> None:
        self._forget(self._nonces, address)
        self._changes += 1
        self._nonces[address] = nonce

    def get_storage(self, address: Any, slot: int) -> int:
        return int(self.read("storage", address.canonical_address, slot))

    def get_storage_slot(self, address: Any, slot: int) -> bytes:
        return self.get_storage(address, slot).to_bytes(32, "big")

    def set_storage(self, address: Any, slot: int, value: int) -> None:
        self._store(address.canonical_address, {slot: value})

    def reset_access_counters(self) -> None:
        """Each call starts with none."""

    def snapshot(self) -> Any:
        return self._revm.snapshot(), len(self._undo)

    def revert(self, snapshot_id: Any) -> None:
        self._changes += 1
        checkpoint, length = snapshot_id
        self._revm.revert(checkpoint)
        while len(self._undo) > length:
            self._undo.pop()()

    # ------------------------------------------------------------------------- transactions

    def generate_create_address(self, sender: Any) -> Address:
        account = sender.canonical_address
        nonce = int(self.read("nonce", account))
        self._set_nonce(account, nonce + 1)
        return Address(generate_contract_address(account, nonce))

    def deploy_code(
        self, *, sender: Any, target_address: Any, gas: int | None, **options: Any
    ) -> Any:
        account, target = sender.canonical_address, target_address.canonical_address
        nonce = self._nonces.get(account, 0) - 1
        plain = gas is None and not options["value"] and nonce >= 0
        if plain and self._is_here() and bytes(generate_contract_address(account, nonce)) == target:
            self._forget(self._codes, target)
            self._changes += 1
            self._insert(account, self._code(account), nonce)
            try:
                self._revm.deploy(f"0x{account.hex()}", options["bytecode"])
            except RuntimeError:
                self._codes.pop(target, None)
            else:
                self._codes.pop(target, None)
                return self._done(b"", self._code(target))
            finally:
                self._revm.reset_transient_storage()
        options |= {"sender": sender, "target_address": target_address, "gas": gas}
        return self._repeat(lambda: PyEVM.deploy_code(self, **options))

    def execute_code(self, *, to: Any, bytecode: bytes, is_static: bool, **options: Any) -> Any:
        account = to.canonical_address
        # Otherwise the code of an internal function, which titanoboa has compiled by itself.
        own = bytecode is self._code(account)

        def call() -> Any:
            return PyEVM.execute_code(
                self, to=to, bytecode=bytecode, is_static=is_static, **options
            )

        if (
            options["gas"] == self.get_gas_limit()
            and options["start_pc"] == 0
            and options["fake_codesize"] is None
            and (own or not options["value"])
            and self._is_here()
            and not self._asks_for_hashes(account, own, options["data"])
        ):
            info = None if own else self._revm.basic(f"0x{account.hex()}")
            if info:
                self._insert(account, bytecode, info.nonce)
            try:
                output = self._revm.message_call(
                    f"0x{options['sender'].canonical_address.hex()}",
                    f"0x{account.hex()}",
                    options["data"],
                    value=options["value"] or None,
                    gas=options["gas"],
                    is_static=is_static,
                )
            except RuntimeError as error:
                if found := REVERT.match(str(error)):
                    return self._refused(bytes.fromhex(found[1]), call)
            else:
                self._changes += not is_static
                return self._done(options["data"], output)
            finally:
                if info:
                    self._revm.insert_account_info(f"0x{account.hex()}", info)
                self._revm.reset_transient_storage()
        return self._repeat(call)

    def _done(self, data: bytes, output: bytes) -> Done:
        return Done(self.get_gas_meter_class(), bytes(data), bytes(output), self._revm.result)

    def _refused(self, output: bytes, call: Callable[[], Any]) -> Refused:
        seen = self._changes, self._block

        def again() -> Any:
            self._is_here()
            assert seen == (self._changes, self._block), "other things have happened since"
            return self._repeat(call)

        return Refused(self.get_gas_meter_class(), output, again)

    def _is_here(self) -> bool:
        """Whether revm can stand for py-evm now; if so it is in the same block."""
        if self.env._coverage_enabled or self.patch.chain_id != CHAIN_ID:
            return False
        block = self.patch.block_number, self.patch.timestamp, self.patch.prevrandao
        if block != self._block:
            self._block = block
            number, timestamp, prevrandao = block
            self._revm.set_block_env(
                BlockEnv(number=number, timestamp=timestamp, prevrandao=prevrandao)
            )
        return True

    def _asks_for_hashes(self, account: bytes, own: bool, data: bytes) -> bool:
        """revm makes up the hashes of blocks."""
        compiled = getattr(self.env._lookup_contract_fast(account), "compiler_data", None)
        if compiled is None:
            return False
        found = hash_readers.selectors(compiled)
        return bytes(data[:4]) in found if own else bool(found)

    def _repeat(self, call: Callable[[], Any]) -> Any:
        """The call on py-evm, over the state of revm; if it goes through, its changes are kept."""
        state = self.vm.state
        overlay = Overlay(self)
        state._account_db, state._transient_storage = overlay, Transient(overlay)
        computation = call()
        if not computation.is_error:
            self._changes += 1
            self._keep(overlay)
        return computation

    def _keep(self, overlay: Overlay) -> None:
        slots: dict[bytes, dict[int, int]] = {}
        for (what, address, slot), value in overlay.changed.items():
            if what == "storage":
                slots.setdefault(address, {})[slot] = value
            elif what == "code":
                self._set_code(address, value)
            elif what == "balance":
                self.set_balance(Address(address), value)
            elif what == "nonce":
                self._set_nonce(address, value)
        for address, values in slots.items():
            self._store(address, values)


def install() -> None:
    """Let titanoboa have both machines from here on."""
    if os.environ.get(MACHINE) != "py-evm":
        boa.env.evm = TwoMachines(boa.env)


@contextmanager
def titanoboa_alone() -> Iterator[None]:
    """py-evm executes, as titanoboa has it; on a chain of its own where `install` was called."""
    ours = boa.env.evm
    boa.env.evm = PyEVM(boa.env)
    try:
        yield
    finally:
        boa.env.evm = ours
