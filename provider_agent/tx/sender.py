# SPDX-License-Identifier: Apache-2.0
"""Sends transactions so that each intent lands once, whatever nodes, chain and power do.

An intent is a row with a unique key and a call. The rules that make "once" hold:

- An intent gets one nonce, for ever. Everything signed for it, replacements and the cancelling
  self-transfer included, carries that nonce, so the chain itself admits one of them at most.
- Nonce and signed bytes are on the disk before the bytes leave. After a restart the rows say all.
- What a node answers to a broadcast decides nothing but when to look again. What happened is read
  from the chain: the account's nonce at a pinned block, then the receipts of all hashes signed.
- A result counts when its block is `confirmations` deep, and is watched for `reorg_window` blocks
  after that. A transaction that a reorg has thrown out is broadcast again, the same bytes.
- A nonce taken by a transaction that is not in the database means that somebody else uses the key:
  KeyInUse, and nothing more is signed.

Call `tick` regularly from one thread; `submit` and `abandon` only write rows. `tick` raises
ChainError when the nodes do not answer: the rows are consistent, call it again later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from eth_utils.address import to_checksum_address

from provider_agent.errors import KeyInUse
from provider_agent.store import Intent, IntentKey, IntentState, Mined, Store, Transaction
from provider_agent.tx.keys import OperatorKey
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BlockUnknown, ChainError, Reverted, RpcError, no_gas_money
from teraproof.rpc.types import BlockRef, Fees, Receipt

log = logging.getLogger(__name__)

_WAITING = (IntentState.SIGNED, IntentState.SENT)
_CALL, _CANCEL, _FILL = "call", "cancel", "fill"
_REBROADCAST = 15.0  # seconds after which nodes are reminded of a waiting transaction
_GAS_MARGIN = (5, 4)  # the state may change between the estimate and the block
_PLAIN_GAS = 100_000  # a self-transfer, with room for rollups that charge data as gas
_PATIENCE = 3  # ticks in a row that must agree before an absence is believed
_FLOOR = "nonce_floor"  # first nonce that is ours: what came before, this database does not know


class FeeOffer(NamedTuple):
    """What a transaction offers, in wei per gas."""

    max_fee: int
    priority_fee: int


class Sender:
    """Drives the intents of one operator key. See the module for the rules.

    `max_fee` is the most it pays, wei per gas; `in_flight` how many transactions may wait at once;
    `replace_after` the seconds after which a waiting transaction is replaced by a dearer one.
    `on_change` is called, after the commit, with each intent that has changed its state.
    """

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        key: OperatorKey,
        *,
        max_fee: int,
        confirmations: int = 2,
        reorg_window: int = 64,
        in_flight: int = 16,
        replace_after: float = 60.0,
        on_change: Callable[[Intent], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pool = pool
        self._store = store
        self._key = key
        self._max_fee = max_fee
        self._confirmations = confirmations
        self._reorg_window = max(reorg_window, confirmations)
        self._in_flight = in_flight
        self._replace_after = replace_after
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._started = False
        self._checked: BlockRef | None = None  # head below which finished intents were right
        self._broadcast_at: dict[int, float] = {}
        self._waits_since_block: dict[int, int] = {}
        self._vanished: dict[int, int] = {}  # intent -> ticks for which its nonce is gone
        self._gap_ticks = 0
        self._blocks: dict[int, bytes] = {}  # hashes of blocks by number, for one tick
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
        head = self._pool.head()
        mined = self._pool.nonce(self.address, head)
        pending = max(mined, self._pool.nonce(self.address, "pending"))
        expected = self._expected()
        if expected is None:
            # The first start: what the key did before is not ours, but it must have ended.
            if pending > mined and not adopt:
                raise KeyInUse(
                    f"{self.address} has transactions waiting that this agent did not send; wait "
                    "for them or stop the other program"
                )
            self._store.set_meta(_FLOOR, str(pending))
        elif pending > expected:
            if not adopt:
                raise self._foreign(expected)
            self._store.set_meta(_FLOOR, str(pending))
        self._started = True

    def tick(self) -> BlockRef:
        """Take every intent as far as it goes now; the head it was judged by.

        Raises ChainError, KeyInUse.
        """
        with self._lock:
            if not self._started:
                self.start()
            self._blocks.clear()
            self.trouble = ""
            head = self._pool.head()
            self._blocks[head.number] = head.hash
            count = self._pool.nonce(self.address, head)
            self._watch_finished(head, count)
            for intent in self._store.intents_in(*_WAITING, IntentState.MINED):
                self._observe(intent, head, count)
            self._check_foreign(head, count)
            self._push(head, count)
            self._fill_gap(count)
            self._begin(head)
            return head

    # ------------------------------------------------------------------ what the chain says

    def _observe(self, intent: Intent, head: BlockRef, count: int) -> None:
        """Bring an intent that has a nonce in line with the canonical chain."""
        assert intent.nonce is not None  # set together with SIGNED
        mined = intent.mined
        if intent.nonce >= count:
            mined = None
        elif mined is None or not self._canonical(mined.block_number, mined.block_hash, head):
            mined = self._find(intent, head)
        if mined is None:
            if intent.state not in _WAITING:
                log.warning("%s left the chain in a reorg", _name(intent))
                self._broadcast_at.pop(intent.id, None)
                self._set(intent, IntentState.SENT)
            return
        if mined != intent.mined:
            intent = self._set(intent, IntentState.MINED, mined=mined)
        if intent.state is not IntentState.MINED:
            return
        self._vanished.pop(intent.id, None)
        if head.number - mined.block_number >= self._confirmations:
            state, reason = self._outcome(intent, mined)
            self._set(intent, state, reason=reason)
            self._broadcast_at.pop(intent.id, None)
            self._waits_since_block.pop(intent.id, None)

    def _find(self, intent: Intent, head: BlockRef) -> Mined | None:
        """The canonical receipt of any transaction ever signed for the intent."""
        for made in reversed(self._store.transactions_of(intent.id)):
            receipt: Receipt | None = self._pool.receipt(made.hash)
            if receipt is not None and self._canonical(
                receipt.block_number, receipt.block_hash, head
            ):
                return Mined(
                    receipt.tx_hash,
                    receipt.block_number,
                    receipt.block_hash,
                    receipt.status,
                    receipt.gas_used,
                    receipt.gas_price,
                )
        return None

    def _canonical(self, number: int, block_hash: bytes, head: BlockRef) -> bool:
        if number > head.number:
            return False
        if number not in self._blocks:
            self._blocks[number] = self._pool.block(number).hash
        return self._blocks[number] == block_hash

    def _outcome(self, intent: Intent, mined: Mined) -> tuple[IntentState, str]:
        kinds = {made.hash: made.kind for made in self._store.transactions_of(intent.id)}
        if kinds.get(mined.tx_hash) == _CANCEL:
            return IntentState.ABANDONED, intent.reason or "cancelled"
        if mined.status == 1:
            return IntentState.FINAL, ""
        return IntentState.REVERTED, self._why_reverted(intent, mined)

    def _why_reverted(self, intent: Intent, mined: Mined) -> str:
        """The revert reason, by running the call again around the block it failed in."""
        for number in (mined.block_number, mined.block_number - 1):
            try:
                self._pool.eth_call(intent.to, intent.data, number, self.address)
            except Reverted as error:
                return error.reason
            except ChainError:
                continue
        used_up = any(
            made.hash == mined.tx_hash and mined.gas_used >= made.gas
            for made in self._store.transactions_of(intent.id)
        )
        return "out of gas" if used_up else "failed on chain, reason unknown"

    def _watch_finished(self, head: BlockRef, count: int) -> None:
        """Look again at finished intents when the chain below the last head has changed."""
        checked = self._checked
        if checked is not None:
            try:
                if self._canonical(checked.number, checked.hash, head):
                    self._checked = head
                    return
            except BlockUnknown:
                pass  # the chain got shorter: a reorg
        for intent in self._store.intents_mined_since(head.number - self._reorg_window):
            self._observe(intent, head, count)
        self._checked = head

    # ------------------------------------------------------------------ somebody else's nonces

    def _expected(self) -> int | None:
        """The first nonce that the database has not given out; None before the first start."""
        floor = self._store.meta(_FLOOR)
        following = self._store.next_nonce()
        if floor is None:
            return following
        return max(int(floor), following or 0)

    def _foreign(self, nonce: int) -> KeyInUse:
        return KeyInUse(
            f"another program sends with the key {self.address} (nonce {nonce} is not ours); stop "
            "it, or accept its transactions if it was you"
        )

    def _check_foreign(self, head: BlockRef, count: int) -> None:
        """KeyInUse when the chain holds a transaction of this key that we did not sign."""
        expected = self._expected()
        if expected is not None and count > expected:
            self._started = False
            raise self._foreign(expected)
        suspects = [
            intent
            for intent in self._store.intents_in(*_WAITING)
            if intent.nonce is not None and intent.nonce < count
        ]
        if not suspects:
            self._vanished.clear()
            return
        # The nonce is used up, and none of our hashes has a receipt. Nodes may be slow with
        # receipts, so this must last, and be as deep as a result has to be.
        deep = self._pool.nonce(self.address, max(0, head.number - self._confirmations))
        taken: Intent | None = None
        for intent in suspects:
            assert intent.nonce is not None  # filtered above
            if intent.nonce >= deep:
                continue
            self._vanished[intent.id] = self._vanished.get(intent.id, 0) + 1
            if self._vanished[intent.id] >= _PATIENCE:
                taken = intent
                self._set(
                    intent,
                    IntentState.ABANDONED,
                    reason=f"nonce {intent.nonce} was used by an unknown transaction",
                )
        if taken is not None:
            assert taken.nonce is not None  # filtered above
            self._started = False
            raise self._foreign(taken.nonce)

    def _fill_gap(self, count: int) -> None:
        """Repair nonces below ours that nobody uses any more.

        Our own numbers have no holes. But transactions of the key from before this database can
        leave the chain in a reorg and never come back; then ours would wait for ever.
        """
        waiting = self._store.intents_in(*_WAITING)
        lowest = waiting[0].nonce if waiting else None
        if lowest is None or count >= lowest:
            self._gap_ticks = 0
            return
        if self._pool.nonce(self.address, "pending") > count:
            return
        self._gap_ticks += 1
        if self._gap_ticks < _PATIENCE:
            return
        self._gap_ticks = 0
        offer = self._offer()
        if offer is None:
            return
        key = IntentKey(self.address, str(count), _FILL)
        intent = self._store.add_intent(key, self.address, b"")
        if intent.state is IntentState.PLANNED:
            log.warning("filling the gap at nonce %s", count)
            self._sign(intent, _CALL, _PLAIN_GAS, offer, nonce=count)

    # ------------------------------------------------------------------ sending

    def _push(self, head: BlockRef, count: int) -> None:
        """Broadcast, remind, replace or cancel what waits."""
        for intent in self._store.intents_in(*_WAITING):
            assert intent.nonce is not None  # set together with SIGNED
            if intent.nonce < count:
                continue  # used up on chain: never broadcast, only looked for
            current = self._store.transactions_of(intent.id)[-1]
            first_seen = self._waits_since_block.setdefault(intent.id, head.number)
            overdue = intent.deadline is not None and head.timestamp > intent.deadline
            if overdue and not intent.cancel:
                self._store.request_cancel(intent.id, "deadline passed")
            if (overdue or intent.cancel) and current.kind != _CANCEL:
                self._replace(intent, current, _CANCEL)
                continue
            since = max(intent.updated_at, current.signed_at)
            patience = self._patience(intent, head)
            stuck = self._clock() - since >= patience and head.number > first_seen
            # Behind a stuck transaction all others wait; only the first one has to pay more.
            if stuck and intent.nonce == count and self._replace(intent, current, current.kind):
                self._waits_since_block[intent.id] = head.number
                continue
            last = self._broadcast_at.get(intent.id)
            if (
                intent.state is IntentState.SIGNED
                or last is None
                or (self._clock() - last >= _REBROADCAST)
            ):
                self._broadcast(intent, current)

    def _patience(self, intent: Intent, head: BlockRef) -> float:
        """Seconds a transaction may wait before it is replaced: fewer near its deadline, so that
        there is time to pay more several times.
        """
        if intent.deadline is None:
            return self._replace_after
        return min(self._replace_after, max(0, intent.deadline - head.timestamp) / 8)

    def _begin(self, head: BlockRef) -> None:
        """Sign and broadcast planned intents, as many as may be in flight."""
        room = self._in_flight - len(self._store.intents_in(*_WAITING))
        offer: FeeOffer | None = None
        for intent in self._store.intents_in(IntentState.PLANNED):
            if intent.cancel:
                self._set(intent, IntentState.ABANDONED, reason=intent.reason)
                continue
            if intent.deadline is not None and head.timestamp > intent.deadline:
                self._set(intent, IntentState.ABANDONED, reason="deadline passed")
                continue
            if room <= 0:
                continue
            try:
                gas = self._pool.estimate_gas(
                    self.address, intent.to, intent.data, intent.value, at=head.number
                )
            except Reverted as error:
                self._set(intent, IntentState.REVERTED, reason=error.reason)
                continue
            except RpcError as error:
                self._hold(error)
                return
            offer = offer or self._offer()
            if offer is None:
                return
            self._sign(intent, _CALL, gas * _GAS_MARGIN[0] // _GAS_MARGIN[1], offer)
            room -= 1

    def _sign(
        self, intent: Intent, kind: str, gas: int, offer: FeeOffer, nonce: int | None = None
    ) -> None:
        """Write a signed transaction down, then broadcast it."""
        to_self = kind == _CANCEL

        def sign(number: int) -> Transaction:
            tx_hash, raw = self._key.sign_transaction(
                {
                    "type": 2,
                    "chainId": self._pool.chain_id,
                    "nonce": number,
                    "to": self.address if to_self else intent.to,
                    "value": 0 if to_self else intent.value,
                    "data": b"" if to_self else intent.data,
                    "gas": gas,
                    "maxFeePerGas": offer.max_fee,
                    "maxPriorityFeePerGas": offer.priority_fee,
                }
            )
            signed_at = int(self._clock())
            return Transaction(
                tx_hash, number, kind, raw, gas, offer.max_fee, offer.priority_fee, signed_at
            )

        floor = int(self._store.meta(_FLOOR) or 0)
        intent = self._set(
            intent, IntentState.SIGNED, sign=sign, first_nonce=floor, exact_nonce=nonce
        )
        self._broadcast(intent, self._store.transactions_of(intent.id)[-1])

    def _broadcast(self, intent: Intent, current: Transaction) -> None:
        """Hand the bytes to the nodes. SENT when one of them has a transaction of this intent."""
        self._broadcast_at[intent.id] = self._clock()
        answer = self._pool.broadcast(current.raw)
        if intent.state is not IntentState.SIGNED:
            return
        if answer.accepted or self._known(intent):
            self._set(intent, IntentState.SENT)
        elif answer.errors:
            self._hold(answer.errors[-1])

    def _known(self, intent: Intent) -> bool:
        """Whether the nodes have any of the intent's transactions, whatever they answered."""
        try:
            return any(
                self._pool.knows_transaction(made.hash)
                for made in reversed(self._store.transactions_of(intent.id))
            )
        except ChainError:
            return False  # unknown; the next tick asks again

    def _hold(self, error: ChainError) -> None:
        text = error.message if isinstance(error, RpcError) else str(error)
        if no_gas_money(error):
            text = f"{self.address} has too little gas money; send it some"
        self._say(text)

    def _say(self, text: str) -> None:
        """Remember what holds transactions up; log it when it is news."""
        self.trouble = text
        if text != self._said:
            self._said = text
            log.warning("transactions wait: %s", text)

    # ------------------------------------------------------------------ fees

    def _offer(self) -> FeeOffer | None:
        """Fees for a new transaction, or None (and `trouble`) when the cap is too low now."""
        fees = self._pool.fees()
        if fees.base >= self._max_fee:
            self._say(
                f"the base fee of {fees.base / 1e9:.2f} gwei is above chain.max_fee_gwei; waiting"
            )
            return None
        return self._within_cap(fees)

    def _within_cap(self, fees: Fees) -> FeeOffer:
        # Twice the base fee lasts for six full blocks in a row.
        max_fee = min(2 * fees.base + fees.tip, self._max_fee)
        return FeeOffer(max_fee, min(fees.tip, max_fee))

    def _replace(self, intent: Intent, current: Transaction, kind: str) -> bool:
        """Sign the same nonce again for 12.5 % more of both fees, if the cap allows it."""
        least = FeeOffer(_raised(current.max_fee), _raised(current.priority_fee))
        usual = self._within_cap(self._pool.fees())
        max_fee = max(least.max_fee, usual.max_fee)
        priority_fee = min(max(least.priority_fee, usual.priority_fee), max_fee)
        if max_fee > self._max_fee:
            self._say(
                f"{_name(intent)} waits at nonce {current.nonce} and a replacement would cost more "
                "than chain.max_fee_gwei; raise it"
            )
            return False
        gas = _PLAIN_GAS if kind == _CANCEL else current.gas
        log.info("replacing nonce %s at %s wei per gas (%s)", current.nonce, max_fee, kind)
        self._sign(intent, kind, gas, FeeOffer(max_fee, priority_fee))
        return True

    # ------------------------------------------------------------------ states

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
        log.info("%s: %s -> %s %s", _name(intent), intent.state, state, changed.reason)
        if self._on_change is not None:
            self._on_change(changed)
        return changed


def _raised(fee: int) -> int:
    """At least 12.5 % more, and at least 1 wei."""
    return max((fee * 9 + 7) // 8, fee + 1)


def _name(intent: Intent) -> str:
    return f"{intent.key.action} of {intent.key.object_id}"
