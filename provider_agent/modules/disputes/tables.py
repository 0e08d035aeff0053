# SPDX-License-Identifier: Apache-2.0
"""The table of judged orders."""

from __future__ import annotations

from pathlib import Path

from provider_agent.store.tables import Tables

TABLES = Tables("disputes", Path(__file__).parent / "migrations")
