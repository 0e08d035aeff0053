# SPDX-License-Identifier: Apache-2.0
"""Gives back what payers ask for of their channels, once each, and takes what is owed with it.

Claim and refund are one transaction: either both happen or none. The operator's word for a refund
carries the contract's nonce of the channel, so that it counts once, whatever is sent how often.

A refund costs gas. A payer whose channel has not brought as much as all its deposits and refunds
cost is refused: it has `initiateWithdraw`, at its own gas. Otherwise deposits that go in and out
would drain this account.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from eth_account.signers.local import LocalAccount

from provider_agent.core.attempts import CAME_TO_NOTHING, Attempts
from provider_agent.core.policy import contained
from provider_agent.modules.inference.chain_view import ChannelView
from provider_agent.modules.inference.claim_book import ClaimBook, brings, claim_of
from provider_agent.modules.inference.gas import DEPOSIT_GAS, REFUND_GAS, Costs
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import UNPAID, Asked, ChannelRow, RefundRow
from provider_agent.store import Intent
from teraproof.contracts.channels import ChannelsContract
from teraproof.protocol import messages
from teraproof.protocol.channels import Refund
from teraproof.protocol.messages import Domain
from teraproof.protocol.x402 import ChannelState, Fault
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

#: The action of a transaction that refunds; the contract's nonce of the channel follows.
REFUND = "refund"
_MOST = 32  # that a cycle looks at
_MOST_TRIES = 3


class Refunds:
    """See the module. Used by the loop's thread. `domain` is that of the contract."""

    def __init__(
        self,
        *,
        book: ChannelBook,
        claim_book: ClaimBook,
        view: ChannelView,
        channels: ChannelsContract,
        attempts: Attempts,
        costs: Costs,
        key: LocalAccount,
        domain: Domain,
    ) -> None:
        self._book, self._claim_book = book, claim_book
        self._view, self._channels = view, channels
        self._attempts, self._costs = attempts, costs
        self._key, self._domain = key, domain
        #: How many have ended, by how.
        self.ended: Counter[str] = Counter()
        #: How many wait.
        self.waiting = 0

    def reconcile(self, block: BlockRef, busy: set[bytes]) -> set[bytes]:
        """Take each refund as far as it goes now; the channels of those that wait. `busy` are
        channels that a claim under way is about. Raises ChainError.
        """
        rows = self._book.refunds(Asked.NEW, Asked.SENT)[:_MOST]
        self.waiting = len(rows)
        if not rows:
            return set()
        states = self._view.read([row.channel for row in rows], block)
        for row in rows:
            channel, state = self._book.channel(row.channel), states[row.channel]
            if channel is None:
                self._refuse(row, Fault.CHANNEL_NOT_FOUND.value)
                continue
            with contained("inference: a refund was skipped"), self._book.transaction():
                self._book.see(channel.config, state, block.number)
                channel = self._book.channel(row.channel) or channel
                if row.state is Asked.SENT:
                    self._judge(row, channel, state)
                elif row.channel not in busy and not channel.is_open:
                    self._begin(row, channel)
        return {row.channel for row in rows}

    def _begin(self, row: RefundRow, channel: ChannelRow) -> None:
        deposits = max(1, self._book.deposits_made(row.channel))
        gas = DEPOSIT_GAS * deposits + REFUND_GAS * (channel.refund_nonce + 1)
        if channel.charged < self._costs.of(gas):
            self._refuse(row, UNPAID)
        elif self._send(row, channel):
            self._book.set_refund(row.channel, state=Asked.SENT)

    def _send(self, row: RefundRow, channel: ChannelRow) -> bool:
        """Write the intent of a refund, with a claim of what is owed; whether anything is left."""
        if channel.balance <= channel.charged:  # the payer was quicker, by its own withdrawal
            self._refuse(row, Fault.REFUND_NO_BALANCE.value)
            return False
        amount = min(row.amount, channel.balance - channel.charged)
        word = Refund(channel.channel, channel.refund_nonce, amount)
        signature = messages.sign(self._domain, word, self._key)
        data = self._channels.refund_with_signature(
            channel.config, amount, channel.refund_nonce, signature
        )
        if brings(channel):
            self._claim_book.keep_receivers([channel.config.receiver])
            data = self._channels.multicall([self._channels.claim([claim_of(channel)]), data])
        self._attempts.begin(channel.name, f"{REFUND}-{channel.refund_nonce}", data)
        return True

    def _judge(self, row: RefundRow, channel: ChannelRow, state: ChannelState) -> None:
        """What has become of a refund that was sent."""
        made = _newest(self._attempts.made(channel.name))
        if made and state.refund_nonce > _nonce(made[-1]):
            final = [one.mined for one in made if one.mined is not None and one.mined.status == 1]
            tx_hash = final[-1].tx_hash if final else b""
            self._book.set_refund(row.channel, state=Asked.DONE, tx_hash=tx_hash)
            self.ended["done"] += 1
            log.info("channel %s: %s units given back", channel.name[:12], row.amount)
        elif made and made[-1].state not in CAME_TO_NOTHING:
            return
        elif len(made) < _MOST_TRIES:
            self._send(row, channel)
        else:
            self._refuse(row, Fault.REFUND_TRANSACTION.value)

    def _refuse(self, row: RefundRow, reason: str) -> None:
        self._book.set_refund(row.channel, state=Asked.REFUSED, reason=reason)
        self.ended["refused"] += 1


def _nonce(intent: Intent) -> int:
    """The contract's nonce that an intent's refund is for."""
    return int(intent.key.action.partition("#")[0].partition("-")[2])


def _newest(made: Sequence[Intent]) -> list[Intent]:
    """Those for the newest of the contract's nonces: a wish that was sent has the newest."""
    ours = [one for one in made if one.key.action.startswith(REFUND)]
    newest = max((_nonce(one) for one in ours), default=0)
    return [one for one in ours if _nonce(one) == newest]
