# SPDX-License-Identifier: Apache-2.0
"""What a person sees while the gateway runs: hosts, keys, and what has happened last."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from teraproof.amounts import show_units
from teraproof.gateway.keys import first_day
from teraproof.gateway.relay import Relay
from teraproof.protocol.errors import one_line

_HOSTS = 24  # rows that are shown


class View:
    """Made again for each look. `unit` is the token's name, `now` unix seconds."""

    def __init__(self, relay: Relay, url: str, symbol: str) -> None:
        self._relay, self._url, self._symbol = relay, url, symbol

    def render(self, now: float) -> RenderableType:
        """As it is now."""
        live, purse = self._relay.live, self._relay.means.purse
        head = (
            f"{self._url}/v1: {live.running} running, {live.answered} answered, "
            f"{live.failed} attempts failed; {self._amount(purse.ledger.outlay())} of "
            f"{self._amount(purse.budget.total)} deposited"
        )
        lines = [Text(one_line(line), style="yellow") for line in live.lines]
        return Group(Text(head, style="bold"), self._hosts(), self._keys(now), *lines)

    def _hosts(self) -> Table:
        table = Table("host", "model", "first content", "tokens/s", "answered", "valid", "state")
        hosts, lineups = self._relay.hosts, self._relay.lineups
        rows = [(host, model) for host in hosts.every() for model in host.offer.models]
        for host, model in rows[:_HOSTS]:
            seen = hosts.seen(host.owner, model.name)
            out = hosts.out_for(host.owner)
            verdict = lineups.verdict(host.owner, model.name)
            state = f"left out for {out:.0f} s" if out else "in use"
            table.add_row(
                Text(host.owner[:10]),
                Text(one_line(model.name, 40)),
                "" if seen.latency is None else f"{1000 * seen.latency:.0f} ms",
                "" if seen.throughput is None else f"{seen.throughput:.0f}",
                f"{100 * seen.reliability:.0f} %",
                f"{100 * lineups.share(host.owner, model.name):.0f} %",
                Text(state if verdict.fault is None else verdict.line),
            )
        for owner, why in hosts.dropped.items():
            table.add_row(Text(owner[:10]), "", "", "", "", "", Text(one_line(f"dropped: {why}")))
        return table

    def _keys(self, now: float) -> Table:
        table = Table("key", "spent", "budget", "per")
        keys = self._relay.means.keys
        for key in keys.every():
            spent = key.spent_since(first_day(key.period, now))
            table.add_row(key.name, self._amount(spent), self._amount(key.budget), key.period)
        return table

    def _amount(self, units: int) -> str:
        return show_units(units, self._relay.means.decimals, self._symbol)
