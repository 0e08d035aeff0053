# SPDX-License-Identifier: Apache-2.0
"""The table of proofs."""

from __future__ import annotations

from pathlib import Path

from provider_agent.store.tables import Tables

TABLES = Tables("proofs", Path(__file__).parent / "migrations")
