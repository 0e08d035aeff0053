# SPDX-License-Identifier: Apache-2.0
"""What `status` prints: the transactions, and what each module has to show."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from provider_agent.core.module import Table as Shown
from provider_agent.modules.all import MODULES
from provider_agent.store import Store


def show(store: Store) -> None:
    """Print it."""
    console = Console(markup=False, highlight=False)  # notes are text, whatever is in them
    for module in MODULES:
        for part in module.status(store):
            if isinstance(part, str):
                console.print(part, soft_wrap=True)  # a command in it stays whole
            else:
                console.print(_table(part))
    states = {state.value: n for state, n in store.count_intents().items() if n}
    line = ", ".join(f"{n} {state}" for state, n in states.items()) or "none"
    console.print(f"Transactions: {line}")


def _table(shown: Shown) -> Table:
    table = Table(title=shown.title)
    # People copy ids: they have one length, however narrow the terminal is.
    width = max((len(row[0]) for row in shown.rows), default=0)
    table.add_column(shown.columns[0], no_wrap=True, min_width=width)
    for name in shown.columns[1:]:
        table.add_column(name, overflow="fold")  # a deadline or a reason is never cut
    for row in shown.rows:
        table.add_row(*row)
    return table
