# SPDX-License-Identifier: Apache-2.0
"""What an order asks of a provider, and what protects its tenant, in words."""

from __future__ import annotations

from teraproof.amounts import show_rate, show_tpf
from teraproof.protocol.terms import ZERO_WORD, Judged, Order

_JUDGED = {
    Judged.TRUSTED: "by nobody: trusted",
    Judged.REFUSABLE: "by the tenant, who may burn price and collateral",
    Judged.DETERMINISTIC: "by running it again",
}


def protection(order: Order) -> str:
    """One line on what stands between this order and a provider that delivers nothing good."""
    late = "the price comes back"
    if order.collateral:
        late += " with a part of the collateral"
    if order.judged == Judged.REFUSABLE:
        bad = "you can burn the price and the collateral within the challenge window, not get it"
    elif order.allow_root != ZERO_WORD:
        bad = "it is paid all the same: only the providers that you named can take the job"
    else:
        bad = (
            "it is paid all the same, whoever takes the job: name providers with --allow, hire "
            "one, or pass --judged refusable"
        )
    return f"protection: without a result in time {late}; if the result is bad, {bad}"


def conditions(order: Order) -> list[tuple[str, str]]:
    """What a provider must have to take the order."""
    rows = [("collateral", show_tpf(order.collateral)), ("judged", _JUDGED[Judged(order.judged)])]
    if order.allow_root != ZERO_WORD:
        rows.append(("for", "the providers on a list"))
    if order.min_stake:
        rows.append(("stake needed", show_tpf(order.min_stake)))
    if order.min_score:
        rows.append(("proven throughput needed", show_rate(order.min_score)))
    return rows
