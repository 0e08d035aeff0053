# SPDX-License-Identifier: Apache-2.0
"""What an order asks of a provider, and what protects its tenant, in words."""

from __future__ import annotations

from teraproof.amounts import show_rate, show_tpf
from teraproof.errors import WrongInput
from teraproof.market import notebook
from teraproof.protocol.capability import beyond, of_job
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.terms import LEAST_CAPABILITY, ZERO_WORD, Judged, Order

_JUDGED = {
    Judged.TRUSTED: "by nobody: trusted",
    Judged.REFUSABLE: "by the tenant, who may burn price and collateral",
}
_CLASS = "the class of its GPU"


def protection(order: Order, hired: bool = False) -> str:
    """One line on what stands between this order and a provider that delivers nothing good.

    `hired`: the tenant has chosen the provider by its quote.
    """
    late = "the price comes back"
    if order.collateral:
        late += " with a part of the collateral"
    if order.judged == Judged.REFUSABLE:
        bad = "you can burn the price and the collateral within the challenge window, not get it"
    elif order.capability is not None:
        bad = (
            "you can dispute it with a bond within the challenge window: jurors run the job again, "
            "and their ruling brings the price back"
        )
        if order.collateral:
            bad += " with a part of the collateral"
    elif order.judged != Judged.TRUSTED:
        bad = "what is done about it is " + judged(order)
    elif hired:
        bad = "it is paid all the same: nothing protects you but your choice of this provider"
    elif order.allow_root != ZERO_WORD:
        bad = "it is paid all the same: only the providers that you named can take the job"
    else:
        bad = (
            "it is paid all the same, whoever takes the job: name providers with --allow, hire "
            "one, or pass --judged court or refusable"
        )
    return f"protection: without a result in time {late}; if the result is bad, {bad}"


def judged(order: Order) -> str:
    """Who judges the result of an order, also one of a later version of the contracts."""
    return by_whom(order.judged)


def by_whom(how: int) -> str:
    """Who judges what is judged like that, by the number that an order has for it."""
    known = [words for value, words in _JUDGED.items() if value == how]
    if known:
        return known[0]
    if how > LEAST_CAPABILITY:
        name = notebook.show_capability(how.to_bytes(32, "big"))
        return f"decided by jurors of the capability {name}, who run it again"
    return f"judged in a way ({how}) that this version does not know"


def choices(spec: JobSpec) -> str:
    """One line on what can protect an order of a job that is still to be posted."""
    line = (
        "protection of an order: by default nothing but your choice of providers; with --judged "
        "refusable you can burn price and collateral"
    )
    if not spec.deterministic:
        return line + "; nobody can run this job again, for it is not deterministic"
    unfit = beyond(spec)
    if unfit is not None:
        return f"{line}; no juror can run this job again: {unfit}"
    return (
        f"{line}; with --judged court you can dispute a result, and jurors with "
        f"{capability_of(spec)} run the job again (who they are: juror seats)"
    )


def capability_of(spec: JobSpec) -> str:
    """The capability of a job for people, with a place left for what a specification lacks."""
    try:
        return str(of_job(spec))
    except WrongInput:  # it runs on GPUs, and the tenant has named none yet
        return f"{spec.kind}|{spec.runtime}|{_CLASS}"


def conditions(order: Order) -> list[tuple[str, str]]:
    """What a provider must have to take the order."""
    rows = [("collateral", show_tpf(order.collateral)), ("judged", judged(order))]
    if order.allow_root != ZERO_WORD:
        rows.append(("for", "the providers on a list"))
    if order.min_stake:
        rows.append(("stake needed", show_tpf(order.min_stake)))
    if order.min_score:
        rows.append(("proven throughput needed", show_rate(order.min_score)))
    return rows
