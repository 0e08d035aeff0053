# SPDX-License-Identifier: Apache-2.0
"""The activity log and channels for people, and as JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from teraproof.amounts import show_date, show_units
from teraproof.gateway.store import Store
from teraproof.market.ui import Ui

_COLUMNS = (
    "time",
    "key",
    "kind",
    "model",
    "provider",
    "tokens",
    "cost",
    "first content",
    "outcome",
    "why",
)


def keep_token(store: Store, decimals: int, symbol: str) -> None:
    """Remember how the token's amounts are shown, for commands without a chain."""
    value = json.dumps({"decimals": decimals, "symbol": symbol})
    store.run(lambda db: db.execute("INSERT OR REPLACE INTO meta VALUES ('token', ?)", (value,)))


def decimals_of(store: Store) -> tuple[int, str]:
    """The decimals and the name of the token of the amounts in a store."""
    rows = store.read("SELECT value FROM meta WHERE name = 'token'")
    if not rows:
        return 0, "units"
    found = json.loads(rows[0]["value"])
    return int(found["decimals"]), str(found["symbol"])


def show(rows: Sequence[Mapping[str, Any]], token: tuple[int, str], ui: Ui) -> Mapping[str, Any]:
    """The newest rows of the log, the newest first."""
    if rows:
        ui.table("Requests", _COLUMNS, [_row(row, *token) for row in rows])
    else:
        ui.note("nothing was asked yet")
    return {"requests": [_to_json(row) for row in rows]}


def _row(row: Mapping[str, Any], decimals: int, symbol: str) -> tuple[str, ...]:
    tokens = (
        ""
        if row["prompt_tokens"] is None
        else f"{row['prompt_tokens']:,} + {row['completion_tokens']:,}"
    )
    return (
        show_date(row["time"]),
        row["key"],
        row["kind"],
        row["model"],
        row["owner"],
        tokens,
        "" if row["cost"] is None else show_units(int(row["cost"]), decimals, symbol),
        "" if row["latency_ms"] is None else f"{row['latency_ms']:,} ms",
        row["outcome"],
        row["why"],
    )


def _to_json(row: Mapping[str, Any]) -> dict[str, Any]:
    channel, receipt = row["channel"], row["receipt"]
    return {
        **{name: row[name] for name in ("id", "time", "key", "kind", "model", "outcome", "why")},
        "provider": row["owner"],
        "channel": None if channel is None else f"0x{bytes(channel).hex()}",
        "cost": row["cost"],
        "prompt_tokens": row["prompt_tokens"],
        "completion_tokens": row["completion_tokens"],
        "first_content_ms": row["latency_ms"],
        "total_ms": row["total_ms"],
        "receipt": None if receipt is None else json.loads(receipt),
    }
