# SPDX-License-Identifier: Apache-2.0
"""Brings deposits that payers have signed into their channels, once each.

A deposit is first tried on the newest state, over the visitors' endpoints: what is its payer's
fault costs no gas. The row of the book says what became of it, with the channel's balance as the
chain has it at the pinned block. Whether a payer's word was used says the token (EIP-3009), so it
does not matter who has sent it. What is spent on a channel that brings nothing is bounded: a few
deposits, then it has to have brought the gas of those that were made. What is spent on newcomers
altogether is bounded too (`house`). A payer for which this agent pays no gas can deposit by
itself: a word that somebody has sent counts all the same.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from provider_agent.core.attempts import CAME_TO_NOTHING, Attempts
from provider_agent.modules.inference.chain_view import ChannelView
from provider_agent.modules.inference.gas import DEPOSIT_GAS, Costs
from provider_agent.modules.inference.house import House
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import Asked, DepositRow
from teraproof.contracts.channels import ChannelsContract
from teraproof.protocol.channels import COLLECTOR
from teraproof.protocol.x402 import ChannelState, Fault
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError, Reverted
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

#: The action of a transaction that deposits; the intent is about the authorization's nonce.
DEPOSIT = "deposit"
_MOST = 64  # deposits that a cycle looks at
_MOST_SENT = 16  # under way at once
_OF_ONE = 2  # of one payer
_TRIALS = 8  # new ones that a cycle tries
_CALL_GAS = 1_000_000
_UNEARNED = 3  # deposits of a channel within a week, whatever it has brought
_LEAST_TIME = 6  # seconds that an authorization must be good for


class Deposits:
    """See the module. Used by the loop's thread. `visitors` are the endpoints for what strangers
    cause; `can_pay` says whether there is gas besides what is owed to others.
    """

    def __init__(
        self,
        *,
        book: ChannelBook,
        view: ChannelView,
        channels: ChannelsContract,
        visitors: RpcPool,
        attempts: Attempts,
        operator: str,
        costs: Costs,
        house: House,
        can_pay: Callable[[], bool] = lambda: True,
    ) -> None:
        self._book, self._view, self._channels = book, view, channels
        self._visitors, self._attempts, self._operator = visitors, attempts, operator
        self._costs, self._house, self._can_pay = costs, house, can_pay
        #: How many have ended, by how.
        self.ended: Counter[str] = Counter()
        #: How many wait.
        self.waiting = 0

    def reconcile(self, block: BlockRef, head: BlockRef, time_left: Callable[[], float]) -> None:
        """Take each deposit as far as it goes now. Raises ChainError."""
        rows = self._book.deposits(Asked.NEW, Asked.SENT, limit=_MOST)
        self.waiting = len(rows)
        if not rows:
            return
        open_ = self._confirm(rows, block)
        sent = Counter(row.config.payer for row in open_ if row.state is Asked.SENT)
        trials = 0
        for row in open_:
            if row.state is Asked.SENT:
                self._judge(row)
                continue
            # The payer's word is good as long as it says, and then for nothing.
            if row.deposit.authorization.valid_before < head.timestamp + _LEAST_TIME:
                self._refuse(row, Fault.AUTHORIZATION_LATE)
                continue
            if not self._is_earned(row.channel):
                log.info("deposit %s: its channel has not brought the gas of others", row.name[:12])
                self._refuse(row, Fault.DEPOSIT_TRANSACTION)
                continue
            if not self._house.pays_for(row.config.payer):
                self._hold(row)
                continue
            is_full = sent.total() >= _MOST_SENT or sent[row.config.payer] >= _OF_ONE
            if is_full or not self._can_pay() or trials >= _TRIALS or not time_left():
                continue
            trials += 1
            if self._try(row):
                sent[row.config.payer] += 1

    def _is_earned(self, channel: bytes) -> bool:
        """Whether a channel has brought what its deposits have cost, as far as it has to."""
        made = self._book.deposits_made(channel)
        if made < _UNEARNED:
            return True
        row = self._book.channel(channel)
        return row is not None and row.charged >= self._costs.of(DEPOSIT_GAS * made)

    def _confirm(self, rows: Sequence[DepositRow], block: BlockRef) -> list[DepositRow]:
        """End those whose word is used at the pinned block; the others."""
        used = self._view.used([(row.config.payer, row.nonce) for row in rows], block)
        done = [row for row, is_used in zip(rows, used, strict=True) if is_used]
        if done:
            states = self._view.sure([row.channel for row in done], block)
            with self._book.transaction():
                for row in done:
                    self._end(row, states[row.channel], block)
        return [row for row, is_used in zip(rows, used, strict=True) if not is_used]

    def _end(self, row: DepositRow, state: ChannelState, block: BlockRef) -> None:
        """The payer's word is used: for the channel, or to take it back."""
        if not state.balance:
            self._refuse(row, Fault.DEPOSIT_TRANSACTION)
            return
        self._book.see(row.config, state, block.number)
        made = self._attempts.made(row.name, DEPOSIT)
        mined = next((one.mined for one in made if one.mined is not None), None)
        tx_hash = b"" if mined is None else mined.tx_hash
        self._book.set_deposit(row.nonce, state=Asked.DONE, tx_hash=tx_hash)
        self.ended["done"] += 1

    def _try(self, row: DepositRow) -> bool:
        """Write the intent of a deposit that would go well; whether it would."""
        data = self._data(row)
        try:
            self._visitors.eth_call(
                self._channels.address, data, "latest", self._operator, gas=_CALL_GAS
            )
        except Reverted as error:
            log.info("deposit %s would fail: %s", row.name[:12], error.reason)
            self._refuse(row, Fault.DEPOSIT_SIMULATION)
            return False
        except ChainError as error:
            log.info("deposit %s waits: %s", row.name[:12], error)
            return False
        with self._book.transaction():
            self._send(row, data)
            self._book.set_deposit(row.nonce, state=Asked.SENT)
        return True

    def _send(self, row: DepositRow, data: bytes) -> None:
        deadline = min(row.deposit.authorization.valid_before - 1, 2**63)
        self._attempts.begin(row.name, DEPOSIT, data, deadline)

    def _judge(self, row: DepositRow) -> None:
        """What has become of one that was sent, and whose word is not used."""
        made = self._attempts.made(row.name, DEPOSIT)
        if made and made[-1].state not in CAME_TO_NOTHING:
            return
        if not made or self._attempts.gets_more(made[-1]):
            self._send(row, self._data(row))
            return
        mined = made[-1].mined
        if mined is not None and mined.status != 1:
            log.warning("deposit %s failed on chain", row.name[:12])
            self._book.set_deposit(row.nonce, tx_hash=mined.tx_hash)
        self._refuse(row, Fault.DEPOSIT_TRANSACTION)

    def _hold(self, row: DepositRow) -> None:
        """Say that its gas is not paid now. It may be asked for again."""
        self._book.set_deposit(row.nonce, state=Asked.HELD)
        self.ended["held"] += 1

    def _refuse(self, row: DepositRow, fault: Fault) -> None:
        self._book.set_deposit(row.nonce, state=Asked.REFUSED, reason=fault.value)
        self.ended["refused"] += 1

    def _data(self, row: DepositRow) -> bytes:
        said = row.deposit.authorization.collector_data(row.deposit.signature)
        return self._channels.deposit(row.config, row.deposit.amount, COLLECTOR, said)
