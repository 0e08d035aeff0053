# SPDX-License-Identifier: Apache-2.0
"""Who is tried first: properties of the ranking, over random hosts and wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.preferences import MaxPrice, Preferences
from teraproof.gateway.ranking import (
    Search,
    Wish,
    completion_limit,
    expected_price,
)
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.inference import InferenceOffer, Model, Prices
from teraproof.protocol.terms import address
from tests.sdk.gateway.played import TOKEN, model

OWNERS = [address("owner", f"0x{number:040x}") for number in range(1, 9)]
WISH = Wish("chat", 100, 200, frozenset())
M = Preferences(("m",))


def host(owner: str, *models: Model) -> Host:
    offer = InferenceOffer(
        "http://h", "eip155:1", CHANNELS, TOKEN, "T", "1", 6, owner, owner, 86_400, 0, 1, models
    )
    return Host(owner, owner, offer)


def known(*found: Host, **more: Any) -> Hosts:
    hosts = Hosts(**more)
    hosts.replace(found)
    return hosts


def order(
    hosts: Hosts, wanted: Preferences = M, wish: Wish = WISH, sort: str | None = None, **more: Any
) -> list[str]:
    found = Search(hosts, wish, wanted, 6, **more).candidates(sort)
    return [one.host.owner for one in found]


@dataclass
class Stated:
    """A quality that the test states."""

    shares: Mapping[str, float] = field(default_factory=dict)

    def share(self, owner: str, model: str) -> float:
        return self.shares.get(owner, 1.0)


prices = st.tuples(*(st.integers(0, 10**7) for _ in range(3)))
offered = st.dictionaries(st.sampled_from(OWNERS), prices, min_size=1)
owners = st.lists(st.sampled_from(OWNERS), unique=True, max_size=4).map(tuple)
preferred = st.builds(
    Preferences,
    models=st.just(("m",)),
    order=owners,
    only=owners,
    ignore=owners,
    allow_fallbacks=st.booleans(),
    sort=st.sampled_from([None, "price", "latency", "throughput"]),
    max_price=st.builds(MaxPrice, prompt=st.none() | st.integers(0, 10).map(Decimal)),
)


@given(offered, preferred, st.sets(st.sampled_from(OWNERS)))
def test_whoever_is_tried__is_allowed_to_be(
    offers: dict[str, tuple[int, int, int]], wanted: Preferences, failed: set[str]
) -> None:
    hosts = known(*(host(owner, model("m", price)) for owner, price in offers.items()))
    for owner in failed:
        hosts.exclude(owner)
    found = order(hosts, wanted)
    assert len(found) == len(set(found))
    for owner in found:
        assert owner not in wanted.ignore
        assert not wanted.only or owner in wanted.only
        limit = wanted.max_price.prompt
        assert limit is None or offers[owner][0] <= limit * 10**6
        if wanted.order and not wanted.allow_fallbacks:
            assert owner in wanted.order
    if not wanted.order and not wanted.allow_fallbacks:
        assert len(found) <= 1
    # Nobody who may be tried is left out without a reason.
    if wanted.allow_fallbacks:
        able = {
            owner
            for owner, price in offers.items()
            if owner not in wanted.ignore
            and (not wanted.only or owner in wanted.only)
            and (wanted.max_price.prompt is None or price[0] <= wanted.max_price.prompt * 10**6)
        }
        assert set(found) == able
    # Who has failed lately comes behind everybody who has not.
    lately = [owner in failed for owner in found]
    assert lately == sorted(lately)


@given(offered, preferred)
def test_nobody_may_serve__each_host_counts_once_for_a_reason(
    offers: dict[str, tuple[int, int, int]], wanted: Preferences
) -> None:
    hosts = known(*(host(owner, model("m", price)) for owner, price in offers.items()))
    if not order(hosts, wanted):
        said = Search(hosts, WISH, wanted, 6).reasons()
        assert sum(int(each.split()[0]) for each in said.split("; ")) == len(offers)


def test_nobody_may_serve__the_reason_that_most_have_comes_first() -> None:
    one, two, three = OWNERS[:3]
    talks = model("m", (9, 9, 9), kinds=("chat", "completions"))
    hosts = known(*(host(owner, talks) for owner in (one, two, three)))

    def why(wanted: Preferences = M, kind: str = "chat", *route: list[str]) -> str:
        wish = Wish(kind, 100, 200, frozenset({"seed"}))
        return Search(hosts, wish, wanted, 6, *route).reasons()

    assert why(kind="embeddings") == "3 with chat, completions, and no embeddings"
    cheap = MaxPrice(completion=Decimal("0.000001"))
    assert (
        why(Preferences(("m",), ignore=(one,), max_price=cheap))
        == "2 above provider.max_price.completion; 1 left out by provider.ignore"
    )
    assert why(Preferences(("m",), only=("elsewhere",))) == "3 not named by provider.only"
    assert why(M, "chat", [two], [two]) == "3 left out by gateway.toml"
    assert why(Preferences(("m",), quantizations=("fp8",))) == "3 with the quantization unknown"
    assert why(Preferences(("m",), require_parameters=True)) == "3 without the parameter seed"
    alone = Preferences(("m",), order=("elsewhere",), allow_fallbacks=False)
    assert why(alone) == "3 not named by provider.order, and without provider.allow_fallbacks"
    hosts.quality = Stated(dict.fromkeys(OWNERS, 0.0))
    assert why() == "3 with answers that differ from those of others"
    assert why(Preferences(("other",))) == ""


@given(offered, owners)
def test_order__goes_first_and_in_its_order(
    offers: dict[str, tuple[int, int, int]], named: tuple[str, ...]
) -> None:
    hosts = known(*(host(owner, model("m", price)) for owner, price in offers.items()))
    found = order(hosts, Preferences(("m",), order=named))
    there = [owner for owner in named if owner in offers]
    assert found[: len(there)] == there


@given(offered)
def test_cheapest_is_first__where_nothing_else_is_known(
    offers: dict[str, tuple[int, int, int]],
) -> None:
    hosts = known(*(host(owner, model("m", price)) for owner, price in offers.items()))
    for sort in (None, "price"):
        found = order(hosts, Preferences(("m",), sort=sort))
        costs = [expected_price(model("m", offers[owner]), WISH) for owner in found]
        assert costs == sorted(costs)


def test_equal_price__the_faster_one_first_and_each_is_tried_once() -> None:
    one, two = OWNERS[:2]
    hosts = known(host(one, model("m")), host(two, model("m")))
    hosts.measured(one, "m").answered(0.1, 50)
    assert order(hosts) == [two, one]
    hosts.measured(two, "m").answered(0.9, 90)
    assert order(hosts) == [one, two]
    assert order(hosts, Preferences(("m",), sort="latency")) == [one, two]
    assert order(hosts, Preferences(("m",), sort="throughput")) == [two, one]
    assert order(hosts, sort="throughput") == [two, one]
    assert order(hosts, Preferences(("m",), sort="latency"), sort="throughput") == [one, two]


def test_preferred_figures__move_who_misses_them_behind_and_exclude_nobody() -> None:
    one, two = OWNERS[:2]
    hosts = known(host(one, model("m", (1, 1, 0))), host(two, model("m", (9, 9, 9))))
    hosts.measured(one, "m").answered(2.0, 5)
    hosts.measured(two, "m").answered(0.2, 50)
    assert order(hosts) == [one, two]
    assert order(hosts, Preferences(("m",), min_throughput=20)) == [two, one]
    assert order(hosts, Preferences(("m",), max_latency=1)) == [two, one]


def test_expected_price_of_a_good_answer__counts_failures_and_broken_answers() -> None:
    one, two = OWNERS[:2]
    stated = Stated({one: 0.9})
    hosts = known(
        host(one, model("m", (95, 95, 0))), host(two, model("m", (100, 100, 0))), quality=stated
    )
    assert order(hosts) == [two, one]  # 95 / 0.9 is above 100
    assert order(hosts, Preferences(("m",), sort="price")) == [one, two]
    stated.shares = {one: 0.99}
    assert order(hosts) == [one, two]
    for _ in range(3):
        hosts.measured(one, "m").failed()
    assert order(hosts) == [two, one]


def test_host_with_a_fault_of_its_model__is_not_asked_for_it() -> None:
    one, two = OWNERS[:2]
    hosts = known(host(one, model("m")), host(two, model("m")), quality=Stated({one: 0.0}))
    assert order(hosts) == [two]


def test_failures__leave_a_host_out_for_a_growing_time_and_an_answer_ends_it() -> None:
    now = [0.0]
    hosts = known(host(OWNERS[0], model("m")), clock=lambda: now[0])
    pauses = [hosts.exclude(OWNERS[0]) for _ in range(9)]
    assert pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert pauses[-1] == 600.0
    assert hosts.is_out(OWNERS[0])
    assert order(hosts) == [OWNERS[0]]  # the last resort
    now[0] = 601.0
    assert not hosts.is_out(OWNERS[0])
    hosts.exclude(OWNERS[0])
    hosts.readmit(OWNERS[0])
    assert hosts.exclude(OWNERS[0]) == 5.0


def test_dropped_host__is_not_asked_at_all() -> None:
    hosts = known(host(OWNERS[0], model("m")))
    hosts.dropped[OWNERS[0]] = "its receipt does not hold"
    assert order(hosts) == []


def test_kind_parameters_and_quantization__are_what_the_host_states() -> None:
    one, two = OWNERS[:2]
    hosts = known(
        host(one, model("m", kinds=("chat",), parameters=("tools",), quantization="FP8")),
        host(two, model("m", kinds=("embeddings",))),
    )
    assert order(hosts) == [one]
    assert order(hosts, wish=Wish("embeddings", 1, 0, frozenset())) == [two]
    wish = Wish("chat", 1, 1, frozenset(["tools"]))
    strict = Preferences(("m",), require_parameters=True)
    assert order(hosts, strict, wish) == [one]
    assert order(hosts, strict, Wish("chat", 1, 1, frozenset(["logprobs"]))) == []
    assert order(hosts, wish=Wish("chat", 1, 1, frozenset(["logprobs"]))) == [one]
    assert order(hosts, Preferences(("m",), quantizations=("fp8",))) == [one]
    assert order(hosts, Preferences(("m",), quantizations=("unknown",))) == []


def test_models__are_tried_one_after_the_other() -> None:
    one, two = OWNERS[:2]
    hosts = known(host(one, model("dear", (9, 9, 9))), host(two, model("m", (1, 1, 1))))
    assert order(hosts, Preferences(("dear", "m"))) == [one, two]


def test_gateway_toml__narrows_and_a_request_cannot_widen_it() -> None:
    one, two = OWNERS[:2]
    hosts = known(host(one, model("m")), host(two, model("m")))
    assert order(hosts, Preferences(("m",), only=(two,)), only=(one,)) == []
    assert order(hosts, Preferences(("m",), order=(two,)), ignore=(two,)) == [one]


def test_length_of_an_answer__by_any_of_its_names() -> None:
    assert completion_limit({}) is None
    assert completion_limit({"max_tokens": 5, "max_completion_tokens": 3}) == 3
    assert completion_limit({"max_output_tokens": 7, "max_tokens": True}) == 7
    wish = Wish.of("chat", {"max_tokens": 9, "tools": [], "messages": []}, 400)
    assert wish == Wish("chat", 100, 9, frozenset(["tools"]))
    assert Prices(1, 1).cost(wish.prompt_tokens, wish.completion_tokens) == 1
