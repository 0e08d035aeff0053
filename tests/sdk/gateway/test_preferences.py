# SPDX-License-Identifier: Apache-2.0
"""What a request's `provider` object says is read whole, or refused by the name of the field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import Refused
from teraproof.gateway import preferences
from teraproof.gateway.preferences import MaxPrice, Preferences
from teraproof.protocol.errors import Code

ONE, TWO = str(Account.create().address), str(Account.create().address)
NAMES = {"fast": ONE}


def read(provider: Any = None, **body: Any) -> Preferences:
    said = {} if provider is None else {"provider": provider}
    return preferences.read({"model": "m", **said, **body}, NAMES)


def refused(provider: Any = None, **body: Any) -> str:
    with pytest.raises(Refused) as caught:
        read(provider, **body)
    assert caught.value.code is Code.FIELD_INVALID
    return str(caught.value.details["field"])


def test_without_a_provider_object__everything_is_allowed() -> None:
    assert read() == Preferences(("m",))


def test_every_field_that_is_honoured__is_read() -> None:
    found = read(
        {
            "order": ["fast", TWO],
            "only": [ONE],
            "ignore": [TWO.lower()],
            "allow_fallbacks": False,
            "require_parameters": True,
            "quantizations": ["FP8"],
            "sort": "latency",
            "max_price": {"prompt": 1, "completion": "2.5", "request": 0.01},
            "preferred_min_throughput": 30,
            "preferred_max_latency": {"p50": 1.5},
            "data_collection": "allow",
            "zdr": False,
        },
        models=["other"],
    )
    assert found == Preferences(
        models=("m", "other"),
        order=(ONE, TWO),
        only=(ONE,),
        ignore=(TWO,),
        allow_fallbacks=False,
        require_parameters=True,
        quantizations=("fp8",),
        sort="latency",
        max_price=MaxPrice(Decimal(1), Decimal("2.5"), Decimal("0.01")),
        min_throughput=30.0,
        max_latency=1.5,
    )


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ({"zdr": True}, "provider.zdr"),
        ({"data_collection": "deny"}, "provider.data_collection"),
        ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
        ({"colour": "red"}, "provider.colour"),
        ({"order": "fast"}, "provider.order"),
        ({"order": ["unheard-of"]}, "provider.order"),
        ({"only": [1]}, "provider.only"),
        ({"ignore": ["x"] * 65}, "provider.ignore"),
        ({"allow_fallbacks": "no"}, "provider.allow_fallbacks"),
        ({"require_parameters": 1}, "provider.require_parameters"),
        ({"quantizations": "fp8"}, "provider.quantizations"),
        ({"sort": "beauty"}, "provider.sort"),
        ({"sort": {"by": "price", "partition": "none"}}, "provider.sort"),
        ({"max_price": 3}, "provider.max_price"),
        ({"max_price": {"image": 1}}, "provider.max_price.image"),
        ({"max_price": {"prompt": -1}}, "provider.max_price.prompt"),
        ({"max_price": {"prompt": "NaN"}}, "provider.max_price.prompt"),
        ({"max_price": {"prompt": True}}, "provider.max_price.prompt"),
        ({"preferred_min_throughput": {"p90": 1}}, "provider.preferred_min_throughput"),
        ({"preferred_max_latency": "soon"}, "provider.preferred_max_latency"),
        ([], "provider"),
    ],
)
def test_field_that_cannot_be_honoured__is_refused_by_its_name(provider: Any, field: str) -> None:
    assert refused(provider) == field


@pytest.mark.parametrize(
    "body", [{"model": None}, {"model": ""}, {"model": 3}, {"model": ["m"]}], ids=str
)
def test_no_model__is_refused(body: dict[str, Any]) -> None:
    assert refused(**body) == "model"


def test_models__are_tried_in_their_order_and_each_once() -> None:
    assert read(models=["b", "m", "b"]).models == ("m", "b")
    assert preferences.read({"models": ["b", "c"]}, {}).models == ("b", "c")
    assert refused(models="b") == "models"
    assert refused(models=[f"m{number}" for number in range(17)]) == "models"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
fields = st.sampled_from(
    ["order", "only", "sort", "max_price", "preferred_min_throughput", "quantizations", "zdr"]
)


@given(st.dictionaries(fields | st.text(max_size=8), values, max_size=4))
def test_whatever_stands_there__it_is_read_or_refused_by_a_name(provider: dict[str, Any]) -> None:
    try:
        read(provider)
    except Refused as error:
        assert error.code is Code.FIELD_INVALID
        assert error.details["field"].startswith("provider")


@pytest.mark.parametrize("said", [None, {}, {"include": True}])
def test_usage__is_told_anyway(said: Any) -> None:
    assert read(usage=said) == Preferences(("m",))


@pytest.mark.parametrize("said", [True, {"include": False}, {"include": True, "more": 1}, []])
def test_usage__that_is_not_to_be_told(said: Any) -> None:
    assert refused(usage=said) == "usage"
