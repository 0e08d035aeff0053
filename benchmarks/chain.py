# SPDX-License-Identifier: Apache-2.0
"""A throw-away anvil whose receipts are the same on every machine.

Keys, nonces, block times and fees are fixed, so addresses, digests and signatures are too: the
price of calldata depends on how many of its bytes are zero. The code of a contract must not change
what other transactions cost, so headers that are presented do not depend on it either.
"""

from __future__ import annotations

import gzip
import json
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

# What a block's header owes to the state and to the blocks before it.
_ROOTS = ("parentHash", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash")
# What a node tells of a block next to its header.
_BESIDE_HEADER = ("hash", "size", "totalDifficulty", "transactions", "uncles", "withdrawals")
_MOST_SALTS = 100


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
        """Make empty blocks. The last one and its parent have headers that depend on the block's
        number and time alone, as far as a transaction's price and a draw can tell.

        Else a comment in a contract would move the figures: it changes the root of the state, so
        the headers and what anvil makes of the parent's hash, the next block's prevrandao.
        """
        for _ in range(count - 1):
            self._mine()
        self._replace_head()
        before = self.now
        for salt in range(_MOST_SALTS):
            # A zero byte in calldata costs less than another one.
            self._rpc("anvil_setBalance", account_of("salt").address, hex(salt))
            snapshot = self._rpc("evm_snapshot")
            self._mine()
            head = self._rpc("eth_getBlockByNumber", "latest", False)
            if 0 not in bytes.fromhex(head["stateRoot"][2:]):
                return
            self._rpc("evm_revert", snapshot)
            self.now = before
        raise BenchmarkError("every block's root of the state has a zero byte")

    def _mine(self) -> None:
        self.now += BLOCK_SECONDS
        self._rpc("evm_setNextBlockTimestamp", self.now)
        self._rpc("anvil_mine", "0x1")

    def _replace_head(self) -> None:
        """Put another header in place of the newest block's; the next block is its child."""
        head = self._rpc("eth_getBlockByNumber", "latest", False)
        header = {key: value for key, value in head.items() if key not in _BESIDE_HEADER}
        header |= {name: "0x" + keccak(text=name).hex() for name in _ROOTS}
        header |= {"logsBloom": "0x" + "00" * 256, "gasUsed": "0x5208"}
        state = {
            "block": {
                "number": head["number"],
                "beneficiary": head["miner"],
                "timestamp": head["timestamp"],
                "gas_limit": int(head["gasLimit"], 16),
                "basefee": 0,
                "difficulty": "0x0",
                "prevrandao": header["mixHash"],
                "blob_excess_gas_and_price": {"excess_blob_gas": 0, "blob_gasprice": 1},
                "slot_num": 0,
            },
            "accounts": {},
            "best_block_number": int(head["number"], 16),
            "blocks": [{"header": header, "transactions": [], "ommers": [], "withdrawals": None}],
            "transactions": [],
            "historical_states": None,
        }
        self._rpc("anvil_loadState", "0x" + gzip.compress(json.dumps(state).encode()).hex())

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
