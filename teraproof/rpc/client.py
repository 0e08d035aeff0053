# SPDX-License-Identifier: Apache-2.0
"""The methods of a node that we use, over several endpoints."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from teraproof.errors import LocalError
from teraproof.headers import Header, rebuild
from teraproof.rpc import decode, gather
from teraproof.rpc.endpoint import Haste
from teraproof.rpc.errors import BlockUnknown, ChainError, Malformed, Reverted, RpcError, Transport
from teraproof.rpc.fees import MIN_GAS
from teraproof.rpc.quorum import Quorum
from teraproof.rpc.routing import state_of
from teraproof.rpc.turns import counted
from teraproof.rpc.types import Block, BlockRef, Fees, Log, Mined, Receipt

log = logging.getLogger(__name__)

_USUAL_TIP = 10**9  # wei per gas, where no endpoint says anything; it is taken everywhere
_JUMP = 8  # times the present base fee that the next block's may be, to be believed
_ESTIMATE = "eth_estimateGas"
_GAS_OF_A_BLOCK = 2**50  # where no endpoint tells a block's gas limit
_TIP_AGE = 30.0  # seconds for which tips are good; base fees come with each head
_LOG_RANGE = 2_000  # blocks in one request for logs, to begin with


class RpcPool(Quorum):
    """Several endpoints of one chain, used as one. Safe to use from several threads.

    Every method raises ChainError when no endpoint gives a usable answer.
    """

    _gathers = True  # until an endpoint refuses it
    #: Blocks that one request for logs asks for; it follows what the endpoints admit.
    log_range = _LOG_RANGE
    #: The most that `log_range` grows to.
    most_log_range = _LOG_RANGE
    _told_tips: tuple[float, dict[str, int]] | None = None  # when read, and by endpoint

    def header(self, number: int) -> Header:
        """The whole header of the block with this number, checked against the block's hash."""

        def read(raw: Any) -> Header:
            found = rebuild(decode.fields(raw, "block"))
            if found.number != number:
                raise Malformed("sent another block than was asked for")
            return found

        found: Header = self.call(
            "eth_getBlockByNumber", [hex(number), False], at=number, read=read
        )
        return found

    # ------------------------------------------------------------------ state

    def eth_call(
        self,
        to: str | None,
        data: bytes,
        block: Block,
        sender: str | None = None,
        gas: int | None = None,
    ) -> bytes:
        """Run a call on the state of a block. Raises Reverted with the contract's reason.

        `to` None runs init code, and gives what would be the code of the new contract. `gas` is
        the most that it may use; without it the node's own limit holds.
        """
        request = {"data": "0x" + data.hex()}
        if to is not None:
            request["to"] = to
        if gas is not None:
            request["gas"] = hex(gas)
        if sender is not None:
            request["from"] = sender
        found: bytes = self._state("eth_call", request, block, decode.hex_bytes)
        return found

    def read_many(
        self, to: str, calls: Sequence[bytes], block: Block, width: int = 1
    ) -> list[bytes]:
        """What views of a contract return on the state of a block, `width` words of 32 bytes each.
        The calls are equally long. One request takes `gather.MOST` words; where no endpoint runs
        it, they are asked one by one. Raises Reverted when one of them does.
        """
        found: list[bytes] = []
        most = gather.MOST // width
        for first in range(0, len(calls), most):
            part = calls[first : first + most]
            if self._gathers and len(part) > 1:
                try:
                    answer = self.eth_call(None, gather.program(to, part, width), block)
                    found += gather.words(answer, len(part), width)
                    continue
                except BlockUnknown:
                    raise
                except (ChainError, LocalError) as error:
                    log.info("%s reads are made one by one: %s", len(part), error)
                    self._gathers = isinstance(error, Reverted)  # then one of them does
            found += [self.eth_call(to, call, block) for call in part]
        return found

    def code(self, address: str, block: Block = "latest") -> bytes:
        """The code of an account; empty when it is not a contract."""
        found: bytes = self._state("eth_getCode", address, block, decode.hex_bytes)
        return found

    def balance(self, address: str, block: Block = "latest") -> int:
        """The wei of an account."""
        found: int = self._state("eth_getBalance", address, block, decode.integer)
        return found

    def nonce(self, address: str, block: Block = "latest") -> int:
        """How many transactions of an account the chain holds at a block."""
        found: int = self._state("eth_getTransactionCount", address, block, decode.small)
        return found

    def told_nonces(self, address: str, block: BlockRef) -> list[int]:
        """The same at a block's number, as each endpoint says it that has reached the block."""
        params = [address, hex(block.number)]
        told = self.each("eth_getTransactionCount", params, decode.small, at=block.number)
        return [count for _, count in told]

    def _state(self, method: str, subject: object, block: Block, read: Any) -> Any:
        return self.call(
            method,
            [subject, decode.tag(block)],
            at=decode.number_of(block),
            read=read,
            state=state_of(block),
        )

    # ------------------------------------------------------------------ transactions

    def estimate_gas(
        self,
        sender: str,
        to: str | None,
        data: bytes,
        value: int = 0,
        *,
        at: int | None = None,
        least: int = MIN_GAS,
        likely: int | None = None,
        most: int | None = None,
        state: str | None = "latest",
        overrides: dict[str, Any] | None = None,
    ) -> int:
        """Gas that a call would take on a state; `to` None creates a contract. Raises Reverted when
        most endpoints say that it would fail, TxRefused when the sender cannot pay for it. `state`
        None is what the node takes by itself: with most, the block to come.

        An estimate below `least` or above `most` (a block's limit where it is not given) is not
        believed, and the next endpoint is asked: Malformed when all say so. One above `likely` is
        asked of all of them, and the middle one counts, the lower of two. `at` is a block that the
        endpoint must have reached.
        """
        request = {"from": sender, "data": "0x" + data.hex()}
        if to is not None:
            request["to"] = to
        if value:
            request["value"] = hex(value)
        bound = most or _GAS_OF_A_BLOCK

        def read(raw: Any) -> int:
            gas = decode.small(raw)
            if not least <= gas <= bound:
                raise Malformed(f"estimates {gas} gas, which cannot be")
            return gas

        more: list[object] = [] if state is None else [state]
        if overrides is not None:
            more = [state or "latest", overrides]
        params = [request, *more]
        try:
            found: int = self.call(_ESTIMATE, params, at=at, read=read)
        except Reverted:
            # What is owed would not be sent: that is more than one endpoint's word can decide.
            asked = len(self._candidates(_ESTIMATE, at))
            others = sorted(gas for _, gas in self.each(_ESTIMATE, params, read, at=at))
            if not others or 2 * len(others) < asked:
                raise
            return int(others[len(others) // 2])
        if likely is not None and found > likely and len(self.endpoints) > 1:
            told = sorted(gas for _, gas in self.each(_ESTIMATE, params, read, at=at))
            if told:
                return int(told[(len(told) - 1) // 2])
        return found

    def fees(self, *, head_known: bool = False) -> Fees:
        """What gas costs now: the middle of what the endpoints say, each by the tips of its last
        blocks and by its own price of a tip, whichever is more. `head_known` says that `head` was
        asked for just before.
        """
        if not head_known:
            self.head()
        with self._lock:
            known = [e for e in self.endpoints if e.head is not None and not e.wrong_chain]
            bases = {e.label: e.base_fee for e in known if e.base_fee is not None}
        if not bases:
            return Fees(None, self._middle("eth_gasPrice") or _USUAL_TIP)
        tips = self._tips(bases)
        return Fees(
            base=_middle(list(bases.values())),
            tip=_middle(list(tips.values())) if tips else _USUAL_TIP,
            lowest_base=min(bases.values()),
        )

    def _tips(self, bases: dict[str, int]) -> dict[str, int]:
        """What endpoints say of tips, now or half a minute ago. When they are asked now, `bases` is
        raised to the next block's base fees.
        """
        known, now = self._told_tips, self._clock()
        if known is not None and now - known[0] < _TIP_AGE:
            return known[1]
        tips: dict[str, int] = {}
        for endpoint, (following, tip) in self.each(
            "eth_feeHistory", ["0x5", "latest", [50]], _history
        ):
            base = bases.get(endpoint.label)
            if base is not None and following is not None:
                bases[endpoint.label] = max(base, min(following, _JUMP * base or following))
            if tip is not None:
                tips[endpoint.label] = tip
        for endpoint, tip in self.each("eth_maxPriorityFeePerGas", [], decode.integer):
            tips[endpoint.label] = max(tip, tips.get(endpoint.label, 0))
        self._told_tips = (now, tips)
        return tips

    def _middle(self, method: str) -> int | None:
        found = [value for _, value in self.each(method, [], decode.integer)]
        return _middle(found) if found else None

    def receipt(self, tx_hash: bytes, *, logs: bool = False) -> Receipt | None:
        """The receipt of a transaction, from the first endpoint that has one. That nobody has one
        proves nothing: nodes index late.
        """

        def read(raw: Any) -> Receipt | None:
            return decode.receipt(raw, logs)

        found: Receipt | None = self._first_known("eth_getTransactionReceipt", tx_hash, read)
        return found

    def block_receipts(self, block: BlockRef) -> list[Receipt]:
        """The receipts of all transactions in a block. Not every node has this method."""
        found: list[Receipt] = self.call(
            "eth_getBlockReceipts",
            [hex(block.number)],
            at=block.number,
            read=lambda raw: decode.receipts(raw, block.hash),
            rounds=1,
        )
        return found

    def knows_transaction(self, tx_hash: bytes) -> bool:
        """Whether any endpoint has the transaction, mined or waiting."""
        known = self._first_known(
            "eth_getTransactionByHash", tx_hash, lambda raw: isinstance(raw, dict) or None
        )
        return known is not None

    def _first_known(self, method: str, tx_hash: bytes, read: Any) -> Any:
        """The first answer that is not null: that an endpoint does not know a transaction says
        nothing about the others. Raises when none answered at all.
        """
        answered = False
        request = ["0x" + tx_hash.hex()]
        for left, endpoint in counted(self._candidates(method, None)):
            try:
                haste = Haste.SOME if answered or left else Haste.NONE
                answer = self._ask(endpoint, method, request, read, None, haste)
            except ChainError:
                continue
            answered = True
            if answer is not None:
                return answer
        return None if answered else self.call(method, request, read=read)

    def find_sent(self, account: str, nonce: int, low: int, high: int) -> Mined | None:
        """The transaction of an account with a nonce, in the blocks `low` to `high`, as the chain
        has it; None when it is not shown: no endpoint has it there, or two say different things.
        """
        while low < high:
            middle = (low + high) // 2
            if self.nonce(account, middle) > nonce:
                high = middle
            else:
                low = middle + 1
        found = self.each(
            "eth_getBlockByNumber",
            [hex(low), True],
            lambda raw: decode.sent_by(raw, account, nonce),
        )
        shown = {sent for _, sent in found}
        return next(iter(shown)) if len(shown) == 1 else None

    # ------------------------------------------------------------------ logs

    def logs(
        self,
        addresses: Sequence[str],
        first: int,
        last: int,
        topics: Sequence[object] = (),
        *,
        avoid: str | None = None,
    ) -> list[Log]:
        """Logs of blocks `first` to `last`, both included, in chain order.

        A range that the endpoints do not answer for is halved until they do. `avoid` is the label
        of an endpoint that is asked last.
        """
        found: list[Log] = []
        while first <= last:
            asked = min(first + max(1, self.log_range) - 1, last)
            try:
                found += self._logs(addresses, first, asked, topics, avoid)
            except (RpcError, Transport, BlockUnknown) as error:
                if first == asked or (isinstance(error, Transport) and not error.reached):
                    raise
                self.log_range = max(1, (asked - first + 1) // 2)
                continue
            if asked - first + 1 == self.log_range:
                self.log_range = min(self.most_log_range, self.log_range + self.log_range // 8 + 1)
            first = asked + 1
        return found

    def next_for_logs(self, avoided: str | None) -> str | None:
        """The label of the endpoint to avoid after `avoided`, so that each has its turn."""
        labels = [endpoint.label for endpoint in self.endpoints]
        if len(labels) < 2:
            return None
        return labels[(labels.index(avoided) + 1) % len(labels) if avoided in labels else 0]

    def _logs(
        self,
        addresses: Sequence[str],
        first: int,
        last: int,
        topics: Sequence[object],
        avoid: str | None,
    ) -> list[Log]:
        request = {
            "address": list(addresses),
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": list(topics),
        }

        def read(raw: Any) -> list[Log]:
            entries = decode.logs(raw)
            if any(not first <= entry.block_number <= last for entry in entries):
                raise Malformed("sent logs of other blocks than were asked for")
            return entries

        rounds = 1 if first < last else None  # a shorter range is asked for instead
        found: list[Log] = self.call(
            "eth_getLogs", [request], at=last, read=read, rounds=rounds, avoid=avoid
        )
        return found


def _history(raw: Any) -> tuple[int | None, int | None]:
    """The next block's base fee and the median tip of the last blocks, as far as they are known."""
    found = decode.fields(raw, "fee history")
    bases, rewards = found["baseFeePerGas"], found["reward"]
    following = decode.integer(bases[-1]) if isinstance(bases, list) and bases else None
    tips = [
        decode.integer(reward[0])
        for reward in (rewards if isinstance(rewards, list) else [])
        if isinstance(reward, list) and reward
    ]
    return following, sorted(tips)[len(tips) // 2] if tips else None


def _middle(values: Sequence[int]) -> int:
    """The median; of two the lower one."""
    return sorted(values)[(len(values) - 1) // 2]
