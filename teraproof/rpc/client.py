# SPDX-License-Identifier: Apache-2.0
"""The methods of a node that we use, over several endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from teraproof.headers import Header, rebuild
from teraproof.rpc import decode
from teraproof.rpc.decode import hex_bytes, integer, small
from teraproof.rpc.errors import (
    ChainError,
    RpcError,
    Transport,
    as_revert,
    range_too_large,
)
from teraproof.rpc.quorum import Quorum
from teraproof.rpc.types import Block, Fees, Log, Receipt


class RpcPool(Quorum):
    """Several endpoints of one chain, used as one. Safe to use from several threads."""

    def header(self, number: int) -> Header:
        """The whole header of the block with this number, checked against the block's hash."""
        answer = self.call("eth_getBlockByNumber", [hex(number), False], at=number)
        if not isinstance(answer, dict):
            raise Transport("an RPC endpoint sent a malformed block")
        found = rebuild(answer)
        if found.number != number:
            raise Transport("an RPC endpoint sent another block than was asked for")
        return found

    # ------------------------------------------------------------------ state

    def eth_call(
        self,
        to: str,
        data: bytes,
        block: Block,
        sender: str | None = None,
        gas: int | None = None,
    ) -> bytes:
        """Run a call on the state of a block. Raises Reverted with the contract's reason.

        `gas` is the most that it may use; without it the node's own limit holds.
        """
        request = {"to": to, "data": "0x" + data.hex()}
        if gas is not None:
            request["gas"] = hex(gas)
        if sender is not None:
            request["from"] = sender
        try:
            answer = self.call("eth_call", [request, decode.tag(block)], at=decode.number(block))
        except RpcError as error:
            raise as_revert(error) or error from None
        return hex_bytes(answer)

    def code(self, address: str, block: Block = "latest") -> bytes:
        """The code of an account; empty when it is not a contract."""
        return hex_bytes(
            self.call("eth_getCode", [address, decode.tag(block)], at=decode.number(block))
        )

    def balance(self, address: str, block: Block = "latest") -> int:
        """The wei of an account."""
        return integer(
            self.call("eth_getBalance", [address, decode.tag(block)], at=decode.number(block))
        )

    def nonce(self, address: str, block: Block = "latest") -> int:
        """How many transactions of an account the chain holds at a block."""
        return small(
            self.call(
                "eth_getTransactionCount", [address, decode.tag(block)], at=decode.number(block)
            )
        )

    # ------------------------------------------------------------------ transactions

    def estimate_gas(
        self, sender: str, to: str, data: bytes, value: int = 0, *, at: int | None = None
    ) -> int:
        """Gas that a call would take on the newest state. Raises Reverted when it would fail.

        `at` is a block that the endpoint must have reached.
        """
        request = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
        try:
            return small(self.call("eth_estimateGas", [request, "latest"], at=at))
        except RpcError as error:
            raise as_revert(error) or error from None

    def fees(self) -> Fees:
        """The next block's base fee and the median tip of the last blocks."""
        try:
            history = self.call("eth_feeHistory", ["0x5", "latest", [50]])
            base = integer(history["baseFeePerGas"][-1])
            tips = sorted(integer(reward[0]) for reward in history.get("reward") or [])
            if tips:
                return Fees(base, tips[len(tips) // 2])
        except RpcError:
            base = self.head().base_fee  # a node without fee history
        except (KeyError, IndexError, TypeError):
            base = self.head().base_fee
        return Fees(base, self._tip())

    def _tip(self) -> int:
        try:
            return integer(self.call("eth_maxPriorityFeePerGas"))
        except RpcError:
            return 10**9  # a node without that method; 1 gwei is taken everywhere

    def receipt(self, tx_hash: bytes) -> Receipt | None:
        """The receipt of a transaction, from the first endpoint that has one."""
        answer = self._first_known("eth_getTransactionReceipt", tx_hash)
        if answer is None or answer.get("blockHash") is None:
            return None
        try:
            return Receipt(
                tx_hash=hex_bytes(answer["transactionHash"]),
                block_number=small(answer["blockNumber"]),
                block_hash=hex_bytes(answer["blockHash"]),
                status=small(answer["status"]),
                gas_used=small(answer["gasUsed"]),
                gas_price=small(answer.get("effectiveGasPrice", "0x0")),
                logs=tuple(decode.log(entry) for entry in answer.get("logs", [])),
            )
        except (KeyError, TypeError) as error:
            raise Transport("an RPC endpoint sent a malformed receipt") from error

    def knows_transaction(self, tx_hash: bytes) -> bool:
        """Whether any endpoint has the transaction, mined or waiting."""
        return self._first_known("eth_getTransactionByHash", tx_hash) is not None

    def _first_known(self, method: str, tx_hash: bytes) -> dict[str, Any] | None:
        """The first answer that is not null: that an endpoint does not know a transaction says
        nothing about the others. Raises when none answered at all.
        """
        answered = False
        for endpoint in self._candidates(None):
            try:
                answer = self._ask(endpoint, method, ["0x" + tx_hash.hex()])
            except ChainError:
                continue
            answered = True
            if isinstance(answer, dict):
                return answer
        if answered:
            return None
        answer = self.call(method, ["0x" + tx_hash.hex()])
        return answer if isinstance(answer, dict) else None

    # ------------------------------------------------------------------ logs

    def logs(
        self,
        addresses: Sequence[str],
        first: int,
        last: int,
        topics: Sequence[object] = (),
    ) -> list[Log]:
        """Logs of blocks `first` to `last`, both included, in chain order.

        A range that the node finds too large is halved until it fits.
        """
        if first > last:
            return []
        request = {
            "address": list(addresses),
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": list(topics),
        }
        try:
            answer = self.call("eth_getLogs", [request], at=last)
        except RpcError as error:
            if first == last or not range_too_large(error):
                raise
            middle = (first + last) // 2
            return self.logs(addresses, first, middle, topics) + self.logs(
                addresses, middle + 1, last, topics
            )
        if not isinstance(answer, list):
            raise Transport("an RPC endpoint sent malformed logs")
        found = [decode.log(entry) for entry in answer if not entry.get("removed")]
        return sorted(found, key=lambda entry: (entry.block_number, entry.log_index))
