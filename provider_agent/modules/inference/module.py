# SPDX-License-Identifier: Apache-2.0
"""Paid inference as a module of the agent: its parts put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from provider_agent.core.feed import Source
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle, Module, Table
from provider_agent.core.settings import Section
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.modules.inference.chain_side import ChainSide
from provider_agent.modules.inference.checks import ChannelChecks, ServerChecks
from provider_agent.modules.inference.front import make_front
from provider_agent.modules.inference.money import Money
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.status import channels_status
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.contracts.base import Event

_TIDY_EVERY = 600.0  # seconds


class InferenceModule(Module):
    """Serves the owner's models for pay, where `[inference.models]` names any."""

    name: ClassVar[str] = "inference"
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "inference"
    settings: ClassVar[type[Section]] = InferenceSettings

    def __init__(self, context: Context) -> None:
        self._book = ChannelBook(context.store)
        money = Money.read(context.settings, context.pool)
        money.pay.keep(context.store, self.name)
        self._chain = ChainSide(context, self._book, money)
        self._tidied = 0.0
        self._front = make_front(
            context,
            self._book,
            money,
            floor=lambda: self._chain.floor,
            has_record=self._chain.has_record,
        )

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None without a model. Raises ChainError, SettingsError, KeyFileError."""
        if not context.settings.section(InferenceSettings).models:
            return None
        return cls(context)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """The models' servers, the contract of channels, the token, and what gas costs."""
        wanted = trial.settings.section(InferenceSettings)
        if not wanted.models:
            return ()
        return [*ServerChecks(wanted).all(), *ChannelChecks(trial).all()]

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        """What is owed on channels."""
        return channels_status(store, cls.name)

    def start(self) -> None:
        """Close what a crash has left open, and listen."""
        self._book.recover()
        self._front.start()

    def close(self) -> None:
        """End what is served."""
        self._front.close()

    # ------------------------------------------------------------------ the cycle

    def contracts(self) -> Sequence[Source]:
        """See the chain's side."""
        return self._chain.contracts()

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """See the duty."""
        self._chain.consume(events, again)

    @property
    def look_again(self) -> float | None:
        """See the duty."""
        return self._chain.look_again

    def reconcile(self, cycle: Cycle) -> None:
        """See the duty; now and then, forget what ended long ago."""
        self._chain.reconcile(cycle)
        now = time.time()
        if now - self._tidied >= _TIDY_EVERY:
            self._tidied = now
            self._chain.tidy(int(now))

    def measure(self) -> None:
        """What is served, what is owed, and what waits."""
        self._front.measure()
        self._chain.measure()

    def offer(self) -> dict[str, Any]:
        """See the front."""
        return self._front.offer()

    def ready(self) -> Sequence[Callable[[], Check]]:
        """What the front needs, and deposits."""
        return [*self._front.checks(), *self._chain.checks()]
