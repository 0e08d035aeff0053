# SPDX-License-Identifier: Apache-2.0
"""Paid inference on the chain: its parts put together; see `duty` for what it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from provider_agent.core.feed import Followed, Source
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle
from provider_agent.core.worth import GasWorth
from provider_agent.modules.inference.cashier import BLIND
from provider_agent.modules.inference.chain_view import ChannelView
from provider_agent.modules.inference.claim_book import CONTRACT, ClaimBook, brings
from provider_agent.modules.inference.claims import CLAIM_ALL, Claims
from provider_agent.modules.inference.credit import Bounds
from provider_agent.modules.inference.deposits import Deposits
from provider_agent.modules.inference.duty import EVENTS, EVERY, InferenceDuty
from provider_agent.modules.inference.gas import Costs
from provider_agent.modules.inference.house import House
from provider_agent.modules.inference.metrics import ChainMetrics
from provider_agent.modules.inference.money import Money
from provider_agent.modules.inference.refunds import Refunds
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.settling import Settling
from teraproof.contracts.base import Event
from teraproof.contracts.channels import ChannelsContract
from teraproof.protocol.channels import CHANNELS, channels_domain

log = logging.getLogger(__name__)

_SPARE_JOBS = 2  # whose gas is not spent on what strangers ask for
_SHOWN = 400  # channels that withdraw, of which metrics tell
_WEEK = 7 * 86_400  # seconds for which ended deposits and refunds are kept
_HOUR = 3_600  # and deposits that were refused
_MONTH = 30 * 86_400  # and channels that are empty


class ChainSide:
    """See the module. Used by the loop's thread."""

    def __init__(self, context: Context, book: ChannelBook, money: Money) -> None:
        settings, sender = context.settings, context.sender
        chain, wanted = settings.chain, settings.section(InferenceSettings)
        self._book, self._pay = book, money.pay
        self._contract = channels = ChannelsContract(context.pool, CHANNELS)
        self._claim_book = ClaimBook(context.store)
        view = ChannelView(channels, money.token)
        costs = Costs(
            GasWorth(chain, money.pay.unit),
            lambda: sender.reserve.offered,
            wanted.claim_hours * 3_600,
        )
        self._house = House(context.store, costs, wanted.newcomer_deposits)
        attempts = context.attempts(CONTRACT, channels.address, context.short_pause)
        self._deposits = Deposits(
            book=book,
            view=view,
            channels=channels,
            visitors=context.visitors,
            attempts=attempts,
            operator=context.key.address,
            costs=costs,
            house=self._house,
            can_pay=lambda: sender.reserve.jobs > _SPARE_JOBS,
        )
        self._bounds = Bounds.of(wanted, money.pay.unit)
        self._bounds.keep(context.store)
        self._claims = Claims(
            book=self._claim_book,
            channels=channels,
            sender=sender,
            costs=costs,
            bounds=self._bounds,
            window=chain.reorg_window,
            now=settings.agent.data_dir / CLAIM_ALL,
        )
        self._refunds = Refunds(
            book=book,
            claim_book=self._claim_book,
            view=view,
            channels=channels,
            attempts=attempts,
            costs=costs,
            key=context.key.account,
            domain=channels_domain(chain.chain_id),
        )
        self._settling = Settling(
            view=view,
            channels=channels,
            token=money.token,
            attempts=attempts,
            costs=costs,
            every=EVERY,
        )
        self._duty = InferenceDuty(
            book=book,
            claim_book=self._claim_book,
            view=view,
            deposits=self._deposits,
            claims=self._claims,
            refunds=self._refunds,
            settling=self._settling,
            patience=wanted.withdraw_delay / 4,
        )
        owed, others = self._claim_book.of_others(context.key.address)
        if others:
            log.warning(
                "%s channels of another operator owe %s, and this key cannot claim it: see "
                "provider-agent vouchers export",
                others,
                money.pay.show(owed),
            )
        self._metrics = ChainMetrics(context.metrics)
        self._seen, self._patience = float("-inf"), wanted.withdraw_delay / 4  # seconds

    def contracts(self) -> Sequence[Source]:
        """Deposits, claims and withdrawals happen there."""
        return [Followed(self._contract, EVENTS)]

    @property
    def look_again(self) -> float | None:
        """See the duty."""
        return self._duty.look_again

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See the duty."""
        self._duty.consume(events, again)

    def reconcile(self, cycle: Cycle) -> None:
        """See the duty. Raises ChainError."""
        self._duty.reconcile(cycle)
        self._seen = time.monotonic()

    @property
    def floor(self) -> int:
        """The block that a channel must have been seen at. None is high enough before the chain was
        seen, or when it was not for so long that payers may soon have withdrawn. From any thread.
        """
        is_blind = time.monotonic() - self._seen > self._patience
        return BLIND if is_blind else self._duty.floor

    def has_record(self, payer: str) -> bool:
        """Whether a payer has brought the gas of its deposits. From any thread."""
        return self._house.has_record(payer)

    def checks(self) -> Sequence[Callable[[], Check]]:
        """Its part of the readiness report."""
        return [self._check_deposits]

    def _check_deposits(self) -> Check:
        held = self._house.is_shut
        line = "newcomers get none: those of a day have not brought their gas" if held else ""
        return Check("deposits", not held, line)

    def tidy(self, now: int) -> None:
        """Forget what ended long ago; `now` is in unix seconds."""
        self._book.forget_asked(now - _WEEK, now - _HOUR)
        self._book.forget_drained(now - _MONTH)

    def measure(self) -> None:
        """What is owed, and what waits."""
        unit = self._pay.unit
        owed, owing = self._claim_book.owed()
        self._metrics.show_owed(owed / unit, owing, self._settling.due / unit)
        at_risk = sum(self._claim_book.at_risk().values())
        self._metrics.show_risk(at_risk / unit, self._bounds.total / unit)
        leaving = self._claim_book.left(_SHOWN)
        ends = [row.withdraw_requested_at + row.config.withdraw_delay for row in leaving]
        self._metrics.show_leaving(sum(map(brings, leaving)) / unit, min(ends, default=0))
        deposits, refunds = self._deposits, self._refunds
        self._metrics.show_requests(
            {"deposit": deposits.waiting, "refund": refunds.waiting},
            {"deposit": deposits.ended, "refund": refunds.ended},
            held=self._house.is_shut,
        )
        self._metrics.show_left_out(self._claims.left_out)
