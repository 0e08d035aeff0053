# SPDX-License-Identifier: Apache-2.0
"""A throw-away anvil whose receipts are the same on every machine.

Keys, nonces, block times and fees are fixed, so addresses, digests and signatures are too: the
price of calldata depends on how many of its bytes are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.types import RPCEndpoint

from teraproof.headers import Header, rebuild
from tests.support.anvil import Anvil, AnvilError
from tools.contracts import CONTRACTS, compile_contract

CHAIN_ID = 31337
GENESIS_TIME = 1_800_000_000  # unix seconds
BLOCK_SECONDS = 12
HARDFORK = "prague"  # the one that Vyper 0.4.3 compiles for
GAS_LIMIT = 10_000_000


class BenchmarkError(Exception):
    """One line for a person: what went wrong and what to do."""


def account_of(role: str) -> LocalAccount:
    """The account of a role. The same role is the same key."""
    account: LocalAccount = Account.from_key(keccak(text=f"teraproof benchmark {role}"))
    return account


class Chain:
    """Deploys contracts and sends transactions, one per block, at times that the caller sets."""

    def __init__(self, url: str) -> None:
        self.web3 = Web3(HTTPProvider(url))
        self.now = GENESIS_TIME
        self._nonces: dict[str, int] = {}
        self._artefacts: dict[str, dict[str, Any]] = {}

    def account(self, role: str) -> LocalAccount:
        """The account of a role, with ether for its gas."""
        account = account_of(role)
        if account.address not in self._nonces:
            self._nonces[account.address] = 0
            self._rpc("anvil_setBalance", account.address, hex(10**18))
        return account

    def pass_time(self, seconds: int) -> None:
        """Let the next transaction's block be this much later than usual."""
        self.now += seconds

    def wait_until(self, time: int) -> None:
        """Let the next transaction's block have this time, or the usual one if that is later."""
        self.now = max(self.now, time - BLOCK_SECONDS)

    def mine(self, count: int = 1) -> None:
        """Make empty blocks."""
        for _ in range(count):
            self.now += BLOCK_SECONDS
            self._rpc("evm_setNextBlockTimestamp", self.now)
            self._rpc("anvil_mine", "0x1")

    def header(self, number: int) -> Header:
        """The header of a block."""
        return rebuild(self._rpc("eth_getBlockByNumber", hex(number), False))

    def write(self, address: str, slot: int, word: bytes) -> None:
        """Put a word into the storage of a contract."""
        self._rpc("anvil_setStorageAt", address, f"0x{slot:064x}", "0x" + word.hex())

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Take back what the body does to the chain."""
        now, nonces = self.now, dict(self._nonces)
        snapshot = self._rpc("evm_snapshot")
        yield
        self._rpc("evm_revert", snapshot)
        self.now, self._nonces = now, nonces

    def deploy(self, sender: LocalAccount, name: str, *arguments: Any) -> Contract:
        """Deploy `contracts/<name>.vy`."""
        compiled = self._compiled(name)
        factory = self.web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
        data = factory.constructor(*arguments).data_in_transaction
        receipt = self.transact(sender, f"deploy {name}", None, data)
        return self.at(receipt["contractAddress"], name)

    def _compiled(self, name: str) -> dict[str, Any]:
        if name not in self._artefacts:
            compiled = compile_contract(CONTRACTS / f"{name}.vy", "abi", "bytecode", "layout")
            self._artefacts[name] = compiled
        return self._artefacts[name]

    def slot_of(self, name: str, module: str, variable: str) -> int:
        """Where `contracts/<name>.vy` keeps a variable of a module."""
        layout = self._compiled(name)["layout"]["storage_layout"]
        return int(layout[module][variable]["slot"])

    def at(self, address: str, name: str) -> Contract:
        """A contract whose interface is that of `contracts/<name>.vy`."""
        abi = self._compiled(name)["abi"]
        return self.web3.eth.contract(address=to_checksum_address(address), abi=abi)

    def send(self, sender: LocalAccount, contract: Contract, function: str, *arguments: Any) -> int:
        """Call a function in a transaction and return the gas of its receipt."""
        data = contract.encode_abi(function, args=arguments)
        return int(self.transact(sender, function, contract.address, data)["gasUsed"])

    def transact(self, sender: LocalAccount, label: str, to: str | None, data: str) -> Any:
        """Send a transaction, `to` None creates a contract; the receipt."""
        self.now += BLOCK_SECONDS
        self._rpc("evm_setNextBlockTimestamp", self.now)
        transaction: dict[str, Any] = {
            "chainId": CHAIN_ID,
            "nonce": self._nonces[sender.address],
            "gas": GAS_LIMIT,
            "gasPrice": 0,
            "value": 0,
            "data": data,
        }
        if to is not None:
            transaction["to"] = to
        digest = self.web3.eth.send_raw_transaction(
            sender.sign_transaction(transaction).raw_transaction
        )
        self._nonces[sender.address] += 1
        receipt = self.web3.eth.wait_for_transaction_receipt(digest, poll_latency=0.005)
        if receipt["status"] != 1:
            raise BenchmarkError(f"{label} reverted: {self._reason(transaction, sender)}")
        return receipt

    def _reason(self, transaction: dict[str, Any], sender: LocalAccount) -> str:
        fields = {key: transaction[key] for key in ("to", "data") if key in transaction}
        answer = self.web3.provider.make_request(
            RPCEndpoint("eth_call"), [{**fields, "from": sender.address}, "latest"]
        )
        return str(answer.get("error", {}).get("message", "not when called again"))

    def _rpc(self, method: str, *params: Any) -> Any:
        answer = self.web3.provider.make_request(RPCEndpoint(method), list(params))
        if "error" in answer:
            raise BenchmarkError(f"{method}: {answer['error']['message']}")
        return answer.get("result")


@contextmanager
def local_chain() -> Iterator[Chain]:
    """Start anvil on a free port and stop it afterwards."""
    arguments = ["--hardfork", HARDFORK, "--timestamp", str(GENESIS_TIME)]
    arguments += ["--base-fee", "0", "--gas-price", "0"]
    try:
        with Anvil(CHAIN_ID, arguments=arguments, accounts=1) as node:
            yield Chain(node.url)
    except AnvilError as error:
        raise BenchmarkError(str(error)) from error
