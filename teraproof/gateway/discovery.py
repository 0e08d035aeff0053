# SPDX-License-Identifier: Apache-2.0
"""The providers that serve models: named by the chain, asked at the endpoints that they announce.

An agent is a stranger: its words are made harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from teraproof import nesting
from teraproof.client import asking
from teraproof.client.asking import Question, Silence, ask_each
from teraproof.errors import CommandError, LocalError, counted
from teraproof.gateway.hosts import Demands, Host
from teraproof.market import providers
from teraproof.market.market import Market
from teraproof.market.ui import Ui
from teraproof.protocol.channels import MAX_WITHDRAW_DELAY
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.inference import PER, InferenceOffer, Model
from teraproof.storage.reach import Reach

_ANSWER_BYTES = 1 << 20
_NAME = 80  # characters of a name that are shown
_SHOWN = 5  # providers with the reason why they are not used


@dataclass(frozen=True)
class Found:
    """A provider, and the host that it is; or why it is not one."""

    owner: str
    host: Host | None
    trouble: str = ""
    is_late: bool = False
    """Whether there was no time for its answer."""
    is_unfit: bool = False
    """Whether it serves models on terms that are not taken."""
    is_empty: bool = False
    """Whether it says that it serves none."""


def demands(
    market: Market,
    max_withdraw_delay: int = MAX_WITHDRAW_DELAY,
    max_min_deposit: int | None = None,
) -> Demands:
    """What the market's chain and its payer ask of hosts; units of the token. CommandError when
    there are no channels.
    """
    if market.channels is None:
        raise CommandError(
            f"the deployment on chain {market.chain.chain_id} has no payment channels, so no model "
            "can be paid there; ask its deployer for them, or choose another chain",
            Code.INPUT_INVALID,
        )
    return Demands(
        chain_id=market.chain.chain_id,
        channels=market.channels.address,
        token=market.payment.address,
        decimals=market.decimals,
        max_withdraw_delay=max_withdraw_delay,
        max_min_deposit=max_min_deposit,
    )


def read(
    market: Market,
    reach: Reach,
    ui: Ui | None = None,
    wanted: Demands | None = None,
    *,
    first: Collection[str] = (),
) -> list[Found]:
    """All registered providers, asked at once, where `reach` admits it; those in `first` first."""
    wanted = wanted or demands(market)
    if ui is not None:
        ui.doing("reading the providers")
    urls = providers.endpoints(market)
    if ui is not None:
        ui.doing("asking their agents")
    answers = ask_each(urls, _QUESTION, reach, first=first)
    return [_found(market, owner, answers[owner], wanted) for owner in urls]


def _found(market: Market, owner: str, answer: InferenceOffer | Silence, wanted: Demands) -> Found:
    if isinstance(answer, Silence):
        empty = answer.code is Code.MODEL_UNKNOWN
        return Found(owner, None, answer.why, answer.is_late, is_empty=empty)
    host = Host(owner, market.staking.operator_of(owner, "latest"), answer)
    try:
        host.check(wanted)
    except LocalError as error:
        why = f"serves models and is not used: {one_line(error)}"
        return Found(owner, None, why, is_unfit=True)
    return Found(owner, host)


def still(found: Sequence[Found], known: Iterable[Host]) -> list[Host]:
    """The hosts that there are now. Who was late stays as it was `known`: thousands of slow
    endpoints could crowd out the others otherwise.
    """
    late = {one.owner for one in found if one.is_late}
    kept = [host for host in known if host.owner in late]
    return [one.host for one in found if one.host is not None] + kept


def _read(data: bytes) -> InferenceOffer:
    try:
        document = nesting.loads(data)
        offer = document.get("inference") if isinstance(document, dict) else None
        if offer is not None:
            return InferenceOffer.from_json(offer)
    except (LocalError, ValueError, RecursionError):
        raise LocalError("says something that is not an offer", Code.ANSWER_INVALID) from None
    raise LocalError("serves no models", Code.MODEL_UNKNOWN)


_QUESTION = Question("/v1/provider", _ANSWER_BYTES, _read)


def ask_one(url: str, reach: Reach) -> InferenceOffer | Silence:
    """What the agent at `url` offers, or why it offers nothing. Never raises for what it does."""
    return asking.ask_one(url, _QUESTION, reach)


# ---------------------------------------------------------------------- for people


def explain(found: Sequence[Found], ui: Ui) -> None:
    """A line for each of the first few providers that are not used, with the reason. Where there is
    a host these are the providers whose terms are not taken, otherwise all that may serve models.
    """
    is_served = any(one.host is not None for one in found)
    silent = [one for one in found if one.host is None and not one.is_empty]
    left = [one for one in silent if one.is_unfit or not is_served]
    for one in left[:_SHOWN]:
        ui.note(f"{one.owner} {one.trouble}")
    if len(left) > _SHOWN:
        ui.note(f"{len(left) - _SHOWN} more are not used; teraproof models --json says why")
    if not is_served:
        ui.note("no registered provider serves a model now")


def show(market: Market, found: Sequence[Found], ui: Ui, name: str = "") -> Mapping[str, Any]:
    """A table, and the same as JSON values; prices are whole tokens for a million of text."""
    rows = [
        (model, each.host)
        for each in found
        if each.host is not None
        for model in each.host.offer.models
        if name.lower() in model.name.lower()
    ]
    rows.sort(key=lambda row: (row[0].name, row[0].prices.completion, row[0].prices.prompt))
    if rows:
        columns = ("model", "prompt", "answer", "request", "context", "most", "kinds", "provider")
        title = f"Models ({market.symbol} for a million tokens; for a request)"
        ui.table(title, columns, [_row(market, model, host) for model, host in rows])
    elif name and any(each.host is not None for each in found):
        ui.note("no model is like that")
    else:
        explain(found, ui)
    silent = [each for each in found if each.host is None]
    late = sum(each.is_late for each in silent)
    if late:
        ui.note(f"{counted(late, 'provider')} did not answer in time; --json says which")
    return {
        "models": [_to_json(market, model, host) for model, host in rows],
        "others": [{"provider": each.owner, "why": each.trouble} for each in silent],
    }


def _row(market: Market, model: Model, host: Host) -> tuple[str, ...]:
    prices = model.prices
    return (
        one_line(model.name, _NAME),
        _price(market, prices.prompt),
        _price(market, prices.completion),
        _price(market, prices.request),
        f"{model.context:,}",
        f"{model.max_completion:,}",
        ", ".join(model.kinds),
        host.owner,
    )


def _price(market: Market, units: int) -> str:
    text = f"{Decimal(units).scaleb(-market.decimals):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _to_json(market: Market, model: Model, host: Host) -> dict[str, Any]:
    return {
        "model": one_line(model.name, _NAME),
        "provider": host.owner,
        "url": one_line(host.url),
        "prices": {
            "prompt": _price(market, model.prices.prompt),
            "completion": _price(market, model.prices.completion),
            "request": _price(market, model.prices.request),
            "tokens": PER,
        },
        "context_length": model.context,
        "max_completion_tokens": model.max_completion,
        "kinds": list(model.kinds),
        "min_deposit": _price(market, host.offer.min_deposit),
        "digest": model.digest,
        "quantization": one_line(model.quantization, _NAME),
    }
