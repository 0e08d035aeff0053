# SPDX-License-Identifier: Apache-2.0
"""Sends transactions so that each intent lands once, whatever nodes, chain and power do.

An intent is a row with a unique key and a call. The rules that make "once" hold:

- An intent gets one nonce and keeps it. Everything signed for it, replacements and the cancelling
  self-transfer included, carries that nonce, so the chain itself admits one of them at most.
- Nonce and signed bytes are on the disk before the bytes leave. After a restart the rows say all.
- What a node answers to a broadcast decides nothing but when to look again. What happened is read
  from the chain: the account's nonce at a pinned block, then the receipts of all hashes signed.
- A result counts when its block is `confirmations` deep, and is watched for `reorg_window` blocks
  after that. A transaction that a reorg has thrown out is broadcast again, the same bytes.
- A nonce that a transaction of the chain has used, which is not in the database, means that
  somebody else uses the key: KeyInUse, and nothing more is signed. A missing receipt means nothing.

Call `tick` regularly from one thread; `submit` and `abandon` only write rows. `tick` raises
ChainError when the nodes do not answer: the rows are consistent, call it again later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from eth_utils.address import to_checksum_address

from provider_agent.errors import KeyInUse
from provider_agent.store import Intent, IntentKey, IntentState, Mined, Store, Transaction
from provider_agent.tx.fees import Prices
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.nonces import Nonces
from provider_agent.tx.observe import CALL, CANCEL, FILL, Observer, name
from provider_agent.tx.reserve import GasReserve
from provider_agent.tx.signing import signed
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import (
    BlockUnknown,
    ChainError,
    Reverted,
    RpcError,
    TxFault,
    TxRefused,
)
from teraproof.rpc.fees import Offer
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)

_WAITING = (IntentState.SIGNED, IntentState.SENT)
_REBROADCAST = 15.0  # seconds after which nodes are reminded of a waiting transaction
_HELD_BACK = 3  # calls that cannot be estimated, after which a tick tries no more
# Refused for these, a transaction is of no use as it is: it is signed again at the next block.
_SIGN_ANEW = frozenset(
    {
        TxFault.REPLACEMENT,
        TxFault.UNDERPRICED,
        TxFault.FEE_CAP,
        TxFault.GAS,
        TxFault.TYPE,
    }
)


class Sender:
    """Drives the intents of one operator key. See the module for the rules.

    `max_fee` is the most it pays, and `max_tip` the most it tips, wei per gas; `in_flight` how many
    transactions may wait at once; `replace_after` the seconds after which a waiting transaction is
    replaced by a dearer one. `on_change` is called with each intent that has changed its state,
    after the commit. `newest` gives the head; by itself every tick asks for it.
    """

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        key: OperatorKey,
        *,
        max_fee: int,
        max_tip: int | None = None,
        confirmations: int = 2,
        reorg_window: int = 64,
        in_flight: int = 16,
        replace_after: float = 60.0,
        on_change: Callable[[Intent], None] | None = None,
        newest: Callable[[], BlockRef] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._store = store
        self._key = key
        self._confirmations = confirmations
        self._reorg_window = max(reorg_window, confirmations)
        self._in_flight = in_flight
        self._replace_after = replace_after
        self._on_change = on_change
        self._newest = newest or pool.head
        self._clock = clock
        self._chain = Observer(pool, store, key.address)
        self._nonces = Nonces(pool, store, key.address, confirmations, self._chain.canonical)
        self._prices = Prices(pool, store, key.address, max_fee, max_tip)
        self.reserve = GasReserve(pool, key.address, self._prices, max_fee)
        self._lock = threading.Lock()
        self._started = False
        self._checked: BlockRef | None = None  # head below which finished intents were right
        self._broadcast_at: dict[int, float] = {}
        self._waits_since_block: dict[int, int] = {}
        self._refusals: dict[int, TxRefused] = {}  # of the newest bytes of an intent
        #: The newest block with a transaction of ours: from it on, what was read before is old.
        self.last_mined = 0
        #: One line about what holds transactions up, or "".
        self.trouble = ""
        self._said = ""

    @property
    def address(self) -> str:
        """The account that pays for gas."""
        return self._key.address

    # ------------------------------------------------------------------ what others call

    def submit(
        self,
        key: IntentKey,
        to: str,
        data: bytes,
        *,
        value: int = 0,
        deadline: int | None = None,
    ) -> IntentState:
        """Want a call executed once; the state of the intent with this key.

        Harmless to repeat. `deadline` is the block time after which the call is no longer wanted:
        if it still waits then, it is cancelled.
        """
        target = str(to_checksum_address(to))
        return self._store.add_intent(key, target, data, value, deadline).state

    def abandon(self, key: IntentKey, reason: str) -> IntentState | None:
        """Stop wanting a call. A waiting transaction is cancelled, and may still win the race."""
        with self._store.transaction():
            intent = self._store.intent(key)
            if intent is None or intent.done or intent.state is IntentState.MINED:
                return None if intent is None else intent.state
            self._store.request_cancel(intent.id, reason)
            if intent.state is not IntentState.PLANNED:
                return intent.state
        return self._set(intent, IntentState.ABANDONED, reason=reason).state

    def start(self, *, adopt: bool = False) -> None:
        """Compare the key's nonces with the database, before anything is signed.

        Raises KeyInUse when the chain or a node's pool holds transactions of this key that the
        database does not know. `adopt` accepts them: for a database restored from a backup, or
        after the key was used by hand.
        """
        self._store.bind(chain=str(self._pool.chain_id), operator=self.address)
        with self._pool.owed():
            self._nonces.start(adopt)
        self._started = True

    def tick(self) -> BlockRef:
        """Take every intent as far as it goes now; the head it was judged by.

        Raises ChainError, KeyInUse.
        """
        with self._lock, self._pool.owed():
            if not self._started:
                self.start()
            self.trouble = ""
            head = self._newest()
            self._chain.begin(head)
            self._prices.begin(head)
            count = self._nonces.count(head)
            self._watch_finished(head, count)
            self._chain.gather(self._nonces.are_in(head, self._store.intents_in(*_WAITING)))
            for intent in self._store.intents_in(*_WAITING, IntentState.MINED):
                self._observe(intent, head, count)
            if self._is_alone(head, count):
                self._push(head, count)
                self._fill_gap(head, count)
                self._begin(head)
            if self._nonces.trouble and not self.trouble:
                self._say(self._nonces.trouble)
            return head

    # ------------------------------------------------------------------ what the chain says

    def _observe(self, intent: Intent, head: BlockRef, count: int) -> None:
        """Bring an intent that has a nonce in line with the canonical chain."""
        assert intent.nonce is not None  # set together with SIGNED
        mined = intent.mined
        if intent.nonce >= count:
            mined = None
        elif mined is None or not self._chain.canonical(mined.block_number, mined.block_hash):
            mined = self._chain.find(intent)
        if mined is None:
            if intent.state not in _WAITING:
                log.warning("%s left the chain in a reorg", name(intent))
                self._broadcast_at.pop(intent.id, None)
                self._set(intent, IntentState.SENT)
            return
        if mined != intent.mined:
            intent = self._set(intent, IntentState.MINED, mined=mined)
            self._prices.limits.seen(intent, mined)
            self.last_mined = max(self.last_mined, mined.block_number)
        if intent.state is not IntentState.MINED:
            return
        self._refusals.pop(intent.id, None)
        if head.number - mined.block_number >= self._confirmations:
            state, reason = self._chain.outcome(intent, mined)
            self._set(intent, state, reason=reason)
            self._broadcast_at.pop(intent.id, None)
            self._waits_since_block.pop(intent.id, None)

    def _watch_finished(self, head: BlockRef, count: int) -> None:
        """Look again at finished intents when the chain below the last head has changed."""
        checked = self._checked
        if checked is not None:
            try:
                if self._chain.canonical(checked.number, checked.hash):
                    self._checked = head
                    return
            except BlockUnknown:
                pass  # the chain got shorter: a reorg
        for intent in self._store.intents_mined_since(head.number - self._reorg_window):
            self._observe(intent, head, count)
        self._checked = head

    def _is_alone(self, head: BlockRef, count: int) -> bool:
        """Whether nobody else sends with our key, as far as anybody has shown. Raises KeyInUse."""
        try:
            if not self._nonces.check_ahead(head, count):
                return False
        except KeyInUse:
            self._started = False
            raise
        suspects = [
            intent
            for intent in self._store.intents_in(*_WAITING)
            if intent.nonce is not None and intent.nonce < count
        ]
        taken = self._nonces.taken(suspects, head)
        for intent in taken:
            reason = f"nonce {intent.nonce} was used by an unknown transaction"
            self._set(intent, IntentState.ABANDONED, reason=reason)
        if taken:
            self._started = False
            raise self._nonces.foreign(taken[-1])
        return True

    def _fill_gap(self, head: BlockRef, count: int) -> None:
        """Use up a nonce below ours that nobody else will."""
        waiting = self._store.intents_in(*_WAITING)
        if not self._nonces.gap(count, waiting[0].nonce if waiting else None):
            return
        intent = self._store.add_intent(
            IntentKey(self.address, str(count), FILL), self.address, b""
        )
        if intent.state is IntentState.PLANNED:
            gas, offer = self._prices.plain_gas(head), self._offer()
            if offer is not None:
                log.warning("filling the gap at nonce %s", count)
                self._sign(intent, CALL, gas, offer, nonce=count)

    # ------------------------------------------------------------------ sending

    def _push(self, head: BlockRef, count: int) -> None:
        """Broadcast, remind, replace or cancel what waits."""
        for intent in self._store.intents_in(*_WAITING):
            assert intent.nonce is not None  # set together with SIGNED
            if intent.nonce < count:
                continue  # used up on chain: never broadcast, only looked for
            current = self._store.transactions_of(intent.id)[-1]
            since_block = self._waits_since_block.setdefault(intent.id, head.number)
            overdue = intent.deadline is not None and self._pool.sure_time(head) > intent.deadline
            if overdue and not intent.cancel:
                self._store.request_cancel(intent.id, "deadline passed")
            cancels = overdue or intent.cancel
            if cancels and current.kind != CANCEL:
                replaced = self._replace(intent, current, CANCEL, head)
            elif self._is_due(intent, current, head, count, since_block):
                replaced = self._replace(intent, current, current.kind, head)
            else:
                replaced = False
            if replaced:
                continue
            last = self._broadcast_at.get(intent.id)
            if (
                intent.state is IntentState.SIGNED
                or last is None
                or self._clock() - last >= _REBROADCAST
            ):
                self._broadcast(intent, current)

    def _is_due(
        self, intent: Intent, current: Transaction, head: BlockRef, count: int, since_block: int
    ) -> bool:
        """Whether a transaction should be signed again."""
        refusal = self._refusals.get(intent.id)
        if head.number <= since_block:
            return False
        if refusal is not None and refusal.fault in _SIGN_ANEW:
            return True
        if self._cannot_be_paid(intent):
            return intent.state is IntentState.SIGNED  # for less, if less will do today
        # Behind a stuck transaction all others wait; only the first one has to pay more.
        since = max(intent.updated_at, current.signed_at)
        patience = self._patience(intent, current, head)
        return intent.nonce == count and self._clock() - since >= patience

    def _patience(self, intent: Intent, current: Transaction, head: BlockRef) -> float:
        """Seconds a transaction may wait before it is replaced: fewer near its deadline, so that
        there is time to pay more several times. A cancellation is in no hurry.
        """
        if intent.deadline is None or current.kind == CANCEL:
            return self._replace_after
        return min(self._replace_after, max(0, intent.deadline - head.timestamp) / 8)

    def _cannot_be_paid(self, intent: Intent) -> bool:
        refusal = self._refusals.get(intent.id)
        return refusal is not None and refusal.fault is TxFault.FUNDS

    def _replace(self, intent: Intent, current: Transaction, kind: str, head: BlockRef) -> bool:
        """Sign the same nonce again at today's price, if the caps allow it."""
        refusal = self._refusals.get(intent.id)
        waits = intent.state is IntentState.SENT or (
            refusal is not None and refusal.fault is TxFault.REPLACEMENT
        )
        offer = self._prices.replacement(self._store.transactions_of(intent.id), waits=waits)
        if offer is None:
            if self._prices.trouble:
                self._say(f"{name(intent)} at nonce {current.nonce}: {self._prices.trouble}")
            return False
        try:
            gas = self._prices.plain_gas(head) if kind == CANCEL else self._gas_again(intent, head)
        except TxRefused as refused:
            self._hold(refused)
            return False
        gas = gas or current.gas
        price = (current.max_fee, current.priority_fee)
        if (offer.max_fee, offer.priority_fee) == price and (gas, kind) == (
            (current.gas, current.kind)
        ):
            return False  # the same bytes again
        if self._cannot_be_paid(intent) and offer.max_fee * gas >= current.max_fee * current.gas:
            return False  # a higher price would be no better
        log.info("replacing nonce %s at %s wei per gas (%s)", current.nonce, offer.max_fee, kind)
        self._sign(intent, kind, gas, offer, after=current)
        return True

    def _gas_again(self, intent: Intent, head: BlockRef) -> int | None:
        """Today's gas limit of a call; None where it is unknown. That a call would fail now may
        be because its first transaction was mined: what was signed stays wanted.
        """
        try:
            return self._prices.gas(intent, head)
        except TxRefused:
            raise
        except ChainError:
            return None

    def _begin(self, head: BlockRef) -> None:
        """Sign and broadcast planned intents, as many as may be in flight."""
        room = self._in_flight - len(self._store.intents_in(*_WAITING))
        offer: Offer | None = None
        held_back = 0
        for intent in self._store.intents_in(IntentState.PLANNED):
            if intent.cancel:
                self._set(intent, IntentState.ABANDONED, reason=intent.reason)
                continue
            if intent.deadline is not None and self._pool.sure_time(head) > intent.deadline:
                self._set(intent, IntentState.ABANDONED, reason="deadline passed")
                continue
            if room <= 0 or held_back >= _HELD_BACK:
                continue
            try:
                gas = self._prices.gas(intent, head)
            except Reverted as error:
                self._set(intent, IntentState.REVERTED, reason=error.reason)
                continue
            except RpcError as error:
                # One that no node estimates must not hold up the others.
                held_back += 1
                self._hold(error)
                continue
            offer = offer or self._offer()
            if offer is None:
                return
            self._sign(intent, CALL, gas, offer)
            room -= 1

    def _offer(self) -> Offer | None:
        """Fees for a new transaction, or None (and `trouble`) when a cap is too low now."""
        offer = self._prices.offer()
        if self._prices.trouble:
            self._say(self._prices.trouble)
        return offer

    def _sign(
        self,
        intent: Intent,
        kind: str,
        gas: int,
        offer: Offer,
        *,
        nonce: int | None = None,
        after: Transaction | None = None,
    ) -> None:
        """Write a signed transaction down, then broadcast it."""
        # Later than what it replaces, also within one second: the newest one is current.
        signed_at = max(int(self._clock()), 0 if after is None else after.signed_at + 1)

        def sign(number: int) -> Transaction:
            chain = self._pool.chain_id
            return signed(self._key, chain, intent, number, kind, gas, offer, signed_at)

        written = self._set(
            intent,
            IntentState.SIGNED,
            sign=sign,
            first_nonce=self._nonces.floor,
            exact_nonce=nonce,
        )
        self._waits_since_block[intent.id] = self._chain.number
        self._broadcast(written, self._store.transactions_of(intent.id)[-1])

    def _broadcast(self, intent: Intent, current: Transaction) -> None:
        """Hand the bytes to the nodes. SENT when one of them has a transaction of this intent."""
        self._broadcast_at[intent.id] = self._clock()
        answer = self._pool.broadcast(current.raw)
        refusals = [error for error in answer.errors if isinstance(error, TxRefused)]
        self._refusals.pop(intent.id, None)
        if not answer.accepted and refusals:
            self._refusals[intent.id] = refusals[0]
            self._prices.refused(refusals[0], current)
        if intent.state is not IntentState.SIGNED:
            return
        if answer.accepted or self._chain.known(intent):
            self._set(intent, IntentState.SENT)
        elif answer.errors:
            self._hold(refusals[0] if refusals else answer.errors[-1])

    def _hold(self, error: ChainError) -> None:
        if isinstance(error, TxRefused) and error.fault is TxFault.FUNDS:
            self._say(f"{self.address} has too little gas money; send it some")
        else:
            self._say(error.message if isinstance(error, RpcError) else str(error))

    def _say(self, text: str) -> None:
        """Remember what holds transactions up; log it when it is news."""
        self.trouble = text
        if text != self._said:
            self._said = text
            log.warning("transactions wait: %s", text)

    def _set(
        self,
        intent: Intent,
        state: IntentState,
        *,
        reason: str | None = None,
        sign: Callable[[int], Transaction] | None = None,
        first_nonce: int = 0,
        exact_nonce: int | None = None,
        mined: Mined | None = None,
    ) -> Intent:
        changed = self._store.set_intent_state(
            intent.id,
            state,
            reason=reason,
            sign=sign,
            first_nonce=first_nonce,
            exact_nonce=exact_nonce,
            mined=mined,
        )
        log.info("%s: %s -> %s %s", name(intent), intent.state, state, changed.reason)
        if self._on_change is not None:
            self._on_change(changed)
        return changed
