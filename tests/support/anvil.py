# SPDX-License-Identifier: Apache-2.0
"""A local chain for tests: anvil as a child process, with the handles that tests pull.

Needs eth-account and the agent only, so every suite can use it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.market.ports import free_port
from teraproof.rpc.words import revert_reason
from tests.support.wire import BROKEN, Wire

ROOT = Path(__file__).resolve().parents[2]
MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31337


class AnvilError(Exception):
    """anvil is missing, did not start, or refused a request."""


def binary() -> str:
    """The anvil program: the one that npm has put here, else one on the path.

    Not the launcher in node_modules/.bin: killing that would leave the chain itself running.
    """
    for found in sorted(ROOT.glob("node_modules/@foundry-rs/anvil-*/bin/anvil")):
        return str(found)
    path = shutil.which("anvil")
    if path is None:
        raise AnvilError("anvil is missing; run: make setup")
    return path


@functools.cache
def _account(number: int) -> LocalAccount:
    """A development account; deriving it from the mnemonic takes a while."""
    Account.enable_unaudited_hdwallet_features()
    path = f"m/44'/60'/0'/0/{number}"
    made: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=path)
    return made


class Anvil:
    """One anvil process. `accounts` are its funded development accounts."""

    def __init__(
        self,
        chain_id: int = CHAIN_ID,
        *,
        block_time: float | None = None,
        arguments: Sequence[str] = (),
        accounts: int = 10,
    ) -> None:
        self.chain_id = chain_id
        self.port = 0
        self._block_time = block_time
        self._arguments = list(arguments)
        self._count = accounts
        self._process: subprocess.Popen[bytes] | None = None
        self._wire: Wire | None = None
        self._clock = threading.Lock()  # held from a look at the chain's time to the next block

    # ------------------------------------------------------------------ life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def accounts(self) -> list[LocalAccount]:
        return [_account(n) for n in range(self._count)]

    def start(self) -> Anvil:
        """Start the process and wait until it answers."""
        self.port = free_port()
        self._wire = Wire(self.url)
        command = [
            binary(),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--chain-id", str(self.chain_id), "--accounts", str(self._count)),
            *("--mnemonic", MNEMONIC, "--silent"),
            *self._arguments,
        ]
        if self._block_time is not None:
            command += ["--block-time", str(self._block_time)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                raise AnvilError(f"anvil ended: {self._process.stderr.read().decode()[:500]}")
            with contextlib.suppress(*BROKEN):
                self.rpc("eth_chainId")
                return self
            time.sleep(0.05)
        self.stop()
        raise AnvilError("anvil does not answer")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
            self._process = None
        if self._wire is not None:
            self._wire.close()

    def __enter__(self) -> Anvil:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------ requests

    def rpc(self, method: str, *params: object) -> Any:
        """The result of a JSON-RPC request; AnvilError when it is refused."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        assert self._wire is not None, "not started"
        answer = json.loads(self._wire.post(body))
        if "error" in answer:
            raise AnvilError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    def number(self) -> int:
        """The number of the newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def block(self, number: int | str = "latest", full: bool = False) -> dict[str, Any]:
        """A block as the node gives it."""
        tag = hex(number) if isinstance(number, int) else number
        found: dict[str, Any] = self.rpc("eth_getBlockByNumber", tag, full)
        return found

    def timestamp(self) -> int:
        """The time of the newest block."""
        return int(self.block()["timestamp"], 16)

    def nonce(self, address: str, tag: str = "latest") -> int:
        """How many transactions of an account are in the chain."""
        return int(self.rpc("eth_getTransactionCount", address, tag), 16)

    def balance(self, address: str) -> int:
        """Wei of an account."""
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def send(self, sender: str, to: str | None = None, data: bytes = b"", value: int = 0) -> str:
        """Send from an unlocked account; the hash of the transaction."""
        request = {"from": sender, "data": "0x" + data.hex(), "value": hex(value)}
        if to is not None:
            request["to"] = to
        return str(self.rpc("eth_sendTransaction", request))

    def receipt(self, tx_hash: str) -> dict[str, Any] | None:
        """The receipt of a transaction, or None."""
        found: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", tx_hash)
        return found

    def reason(self, tx_hash: str) -> str:
        """Why a transaction in the chain failed, in the contract's words."""
        traced = self.rpc("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        output = bytes.fromhex(traced.get("output", "0x")[2:])
        return revert_reason(output) if output else str(traced.get("error", "no reason given"))

    def wait(self, tx_hash: str, seconds: float = 10.0) -> dict[str, Any]:
        """The receipt, once there is one: even automatic mining comes after the answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            receipt = self.receipt(tx_hash)
            if receipt is not None:
                return receipt
            time.sleep(0.005)
        raise AnvilError(f"{tx_hash} was not mined within {seconds} s")

    # ------------------------------------------------------------------ blocks and time

    def mine(self, blocks: int = 1, interval: int = 1) -> None:
        """Add blocks, `interval` seconds apart."""
        self.rpc("anvil_mine", hex(blocks), hex(interval))

    def set_automine(self, on: bool) -> None:
        """Whether each transaction gets its block at once."""
        self.rpc("evm_setAutomine", on)

    def set_block_time(self, seconds: int) -> None:
        """Mine every `seconds`; 0 stops it."""
        self.rpc("evm_setIntervalMining", seconds)

    def increase_time(self, seconds: int) -> None:
        """Move the clock on and mine a block."""
        with self._clock:
            self.rpc("evm_increaseTime", hex(seconds))
            self.mine()

    def step(self, seconds: int) -> None:
        """Mine one block, `seconds` after the last; others may move the clock meanwhile."""
        with self._clock:
            self.rpc("evm_setNextBlockTimestamp", hex(self.timestamp() + seconds))
            self.rpc("evm_mine")

    def set_next_base_fee(self, wei: int) -> None:
        """Set the base fee of the next block."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def set_balance(self, address: str, wei: int) -> None:
        """Give an account money."""
        self.rpc("anvil_setBalance", address, hex(wei))

    # ------------------------------------------------------------------ history

    def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks by as many empty ones; their transactions are lost."""
        self.rpc("anvil_reorg", depth, [])

    def rollback(self, depth: int) -> None:
        """Take the last `depth` blocks away; their transactions are lost."""
        self.rpc("anvil_rollback", depth)

    def reset(self) -> None:
        """Begin again with an empty chain, mining each transaction at once."""
        self.rpc("anvil_reset")
        self.rpc("evm_setIntervalMining", 0)
        self.rpc("evm_setAutomine", True)

    def snapshot(self) -> str:
        """Remember the state of the chain."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to a remembered state; a snapshot can be used once."""
        self.rpc("evm_revert", snapshot)

    @contextlib.contextmanager
    def isolated(self) -> Iterator[None]:
        """Undo whatever the block does to the chain."""
        snapshot = self.snapshot()
        following = int(self.rpc("eth_getBlockByNumber", "pending", False)["baseFeePerGas"], 16)
        try:
            yield
        finally:
            self.revert(snapshot)
            self.set_next_base_fee(following)  # a revert of anvil leaves it as it was

    # ------------------------------------------------------------------ accounts and the pool

    @contextlib.contextmanager
    def impersonate(self, address: str) -> Iterator[str]:
        """Send as any account inside the block."""
        self.rpc("anvil_impersonateAccount", address)
        try:
            yield address
        finally:
            self.rpc("anvil_stopImpersonatingAccount", address)

    def drop_transaction(self, tx_hash: str) -> None:
        """Remove a waiting transaction, as a node under load does."""
        self.rpc("anvil_dropTransaction", tx_hash)

    def drop_all_transactions(self) -> None:
        """Empty the pool."""
        self.rpc("anvil_dropAllTransactions")

    @property
    def pid(self) -> int:
        """The process, for tests that stop and continue it."""
        assert self._process is not None, "not started"
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the process (SIGSTOP makes it hang)."""
        os.kill(self.pid, number)
