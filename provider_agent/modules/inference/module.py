# SPDX-License-Identifier: Apache-2.0
"""Paid inference as a module of the agent: its parts put together."""

from __future__ import annotations

from typing import ClassVar, Self

from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.settings import Section
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store.tables import Tables


class InferenceModule(Module):
    """Serves the owner's models for pay, where `[inference.models]` names any."""

    name: ClassVar[str] = "inference"
    tables: ClassVar[Tables] = TABLES
    section: ClassVar[str] = "inference"
    settings: ClassVar[type[Section]] = InferenceSettings

    def __init__(self, context: Context) -> None:
        self._book = ChannelBook(context.store)

    @classmethod
    def build(cls, context: Context) -> Self | None:
        """None without a model."""
        if not context.settings.section(InferenceSettings).models:
            return None
        return cls(context)

    def start(self) -> None:
        """Close what a crash has left open."""
        self._book.recover()

    def reconcile(self, cycle: Cycle) -> None:
        """Nothing is owed on chain yet."""
