# SPDX-License-Identifier: Apache-2.0
"""What `status` prints: the transactions, and what each module has to show."""

from __future__ import annotations

from rich.console import Console

from provider_agent.modules.all import MODULES
from provider_agent.store import Store
from teraproof.cli.tables import fitted


def show(store: Store) -> None:
    """Print it."""
    console = Console(markup=False, highlight=False)  # notes are text, whatever is in them
    for module in MODULES:
        for part in module.status(store):
            if isinstance(part, str):
                console.print(part, soft_wrap=True)  # a command in it stays whole
            else:
                shown = (part.title, part.columns, part.rows)
                console.print(fitted(console, *shown, whole_ids=True))
    states = {state.value: n for state, n in store.count_intents().items() if n}
    line = ", ".join(f"{n} {state}" for state, n in states.items()) or "none"
    console.print(f"Transactions: {line}")
