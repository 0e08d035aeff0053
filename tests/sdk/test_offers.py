# SPDX-License-Identifier: Apache-2.0
"""What a tenant learns before money moves: all faults of a package, what agents publish, and who
would take the job at what price.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from teraproof.client.listing import Asked, Listing, ask_all
from teraproof.errors import LocalError, WrongInput
from teraproof.market import feasible, notebook, packages
from teraproof.market.ui import QuietUi
from teraproof.protocol import jobspec
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Judged
from teraproof.storage.reach import Reach
from tests.sdk.offers import (
    COURT,
    JOB,
    MARKET,
    OTHER,
    OWNER,
    PUBLISHED,
    TPF,
    USD,
    order,
    provider,
    published,
    spec,
)
from tests.support.codes import fails_as

# ---------------------------------------------------------------------- packages


def test_examine__every_fault_at_once_each_with_its_place(tmp_path: Path) -> None:
    bad = {
        **JOB,
        "kind": "magic",
        "runtime": "No Such",
        "timeout_seconds": 0,
        "inputs": ["gone.py", "../up"],
        "resources": {"cpus": 0, "memory_mb": 512},
        "colour": "red",
    }
    del bad["outputs"]
    (tmp_path / "job.json").write_text(json.dumps(bad))
    package, faults = packages.examine(tmp_path)
    assert package is None
    for place in (
        *("kind", "runtime", "timeout_seconds", "resources.cpus", "resources.disk_mb"),
        *("resources.gpus", "colour", "outputs", "gone.py", "inputs[1]"),
    ):
        assert any(place in fault for fault in faults), place
    assert len(faults) == len(set(faults)) and all("\n" not in fault for fault in faults)
    with pytest.raises(WrongInput, match=f"and {len(faults) - 1} more faults; see job check") as e:
        packages.read(tmp_path)
    assert e.value.details["faults"] == faults


def test_faults__none_for_what_parse_takes_and_parses_first_line_otherwise() -> None:
    assert jobspec.faults(JOB) == []
    for change in ({"env": {"a": "b"}}, {"outputs": ["a", "a/b"]}, {"version": 2}, {"name": 7}):
        document = {**JOB, **change}
        with pytest.raises(LocalError) as caught:
            jobspec.parse(json.dumps(document).encode())
        assert jobspec.faults(document)[0] == str(caught.value)


def test_notebook__names_of_posted_jobs_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    job = spec(name="my job")
    assert notebook.name_of(job.digest()) == ""
    notebook.note(job)
    assert notebook.name_of(job.digest()) == "my job"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    notebook.note(job)  # nowhere to write: no reason to stop
    assert notebook.name_of(job.digest()) == ""


# ---------------------------------------------------------------------- listings


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        published(owner="0x12"),
        published(price_per_hour=1),
        published(price_per_hour="NaN"),
        published(price_per_hour="-1"),
        published(judged_collateral_per_token=50),
        published(price_per_hour="1e999999"),
        published(price_per_hour="9" * 100),
        published(max_seconds=True),
        published(limits={"cpus": 1}),
        published(slots={"total": -1, "promised": 0}),
        published(runtimes=[7]),
        published(devices=["H200"]),
        published(contracts={}),
        published(chain_id="7"),
    ],
)
def test_parse__not_a_listing__one_error(data: bytes) -> None:
    with fails_as(Code.ANSWER_INVALID):
        Listing.parse(data)


def test_parse__names_are_made_harmless_and_bounded() -> None:
    shown = Listing.parse(published(runtimes=["a\x1b[31m" + "b" * 500] * 200))
    assert len(shown.runtimes) == 64
    assert all(len(name) <= 60 and "\x1b" not in name for name in shown.runtimes)


def test_parse__older_agent__what_it_does_not_say_is_none() -> None:
    old = {
        k: v
        for k, v in PUBLISHED.items()
        if k not in ("sandbox", "accept_refusable", "accept_judged")
    }
    old["limits"] = {k: v for k, v in PUBLISHED["limits"].items() if k != "input_mb"}
    shown = Listing.parse(json.dumps(old).encode())
    assert (shown.sandbox, shown.accepts_refusable, shown.accepts_judged) == (None, None, None)
    assert Listing.parse(published(accept_judged=["yes"])).accepts_judged is None
    assert "input_mb" not in shown.limits


@contextmanager
def server(status: int, body: bytes, *, drip: bool = False) -> Iterator[str]:
    """An agent's HTTP side; with `drip` it sends a byte now and then and never ends."""
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(10_000 if drip else len(body)))
            self.end_headers()
            while drip and not over.wait(0.05):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    return
            if not drip:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        over.set()
        http.shutdown()
        http.server_close()


def test_ask_all__good_bad_slow_and_absent__each_has_its_answer() -> None:
    with (
        server(200, published()) as good,
        server(200, b"hello") as stranger,
        server(500, b"") as broken,
        server(200, b"", drip=True) as slow,
    ):
        urls = {
            "good": good,
            "stranger": stranger,
            "broken": broken,
            "slow": slow,
            "absent": "http://127.0.0.1:9",
            "odd": "gopher://x",
        }
        found = ask_all(urls, Reach.own())
    assert list(found) == list(urls)
    listing = found["good"].listing
    assert listing is not None and listing.owner == OWNER
    assert found["good"].trouble == ""
    assert {name for name, one in found.items() if one.listing is None} == set(urls) - {"good"}
    assert found["stranger"].trouble == "is not a Teraproof agent"
    assert "500" in found["broken"].trouble
    for name in ("slow", "absent"):
        assert found[name].trouble.startswith("does not answer")
    assert found["odd"].trouble.startswith("is not asked: ")
    assert ask_all({}, Reach.own()) == {}


# ---------------------------------------------------------------------- verdicts


def codes(
    job: dict[str, Any], ordered: dict[str, Any], says: dict[str, Any], chain: dict[str, Any]
) -> list[Code]:
    asked = Asked("http://agent", Listing.parse(published(**says)))
    given = order(**ordered)
    verdict = feasible.judge(MARKET, provider(**chain), asked, spec(**job), given)
    assert verdict.takes_it == (not verdict.refusals)
    return [refusal.code for refusal in verdict.refusals]


def test_judge__all_fits__takes_it_at_its_price() -> None:
    asked = Asked("http://agent", Listing.parse(published()))
    verdict = feasible.judge(MARKET, provider(), asked, spec(), order())
    # 1.5 tokens per hour for six minutes.
    assert verdict.takes_it and verdict.price == 150_000
    cheap = feasible.judge(MARKET, provider(), asked, spec(timeout_seconds=1), order())
    assert cheap.price == 10_000  # the least that it takes for any job
    assert feasible.judge(MARKET, provider(), asked, spec()).takes_it  # without an order


@pytest.mark.parametrize(
    ("job", "ordered", "says", "chain", "wanted"),
    [
        ({"runtime": "pytorch"}, {}, {}, {}, [Code.RUNTIME_NOT_OFFERED]),
        ({"timeout_seconds": 3_601}, {"max_price": 9 * USD}, {}, {}, [Code.LIMIT_EXCEEDED]),
        ({}, {"max_price": 149_999, "start_price": 1}, {}, {}, [Code.PRICE_TOO_LOW]),
        (
            {},
            {"collateral": 101 * TPF},
            {},
            {},
            [Code.COLLATERAL_OVER_PRICE, Code.COLLATERAL_TAKEN],
        ),
        ({}, {"collateral": 50 * TPF}, {}, {"locked": 480 * TPF}, [Code.COLLATERAL_TAKEN]),
        ({}, {"min_stake": 501 * TPF}, {}, {}, [Code.STAKE_MISSING]),
        ({}, {"min_score": 10**12 + 1}, {}, {}, [Code.SCORE_MISSING]),
        ({}, {"min_score": 10**12}, {}, {"reserved_score": 1}, [Code.SCORE_MISSING]),
        ({}, {"judged": Judged.REFUSABLE}, {}, {}, [Code.NOT_REFUSABLE]),
        ({}, {"judged": Judged.REFUSABLE}, {"accept_refusable": True}, {}, []),
        ({}, {"judged": COURT}, {}, {}, [Code.COURT_REFUSED]),
        ({}, {"judged": COURT}, {"accept_judged": "listed"}, {}, []),
        ({}, {"judged": COURT}, {"accept_judged": "anyone"}, {}, []),
        ({}, {}, {"slots": {"total": 2, "promised": 2}}, {}, [Code.SLOTS_TAKEN]),
        ({}, {}, {"owner": OTHER}, {}, [Code.NOT_REGISTERED]),
        ({}, {}, {"chain_id": 8}, {}, [Code.ANSWER_INVALID]),
        ({}, {}, {"contracts": {"jobs": OTHER}}, {}, [Code.ANSWER_INVALID]),
        ({"allow": [OTHER]}, {}, {}, {}, [Code.NOT_LISTED]),
        ({"allow": [OWNER]}, {}, {}, {}, []),
        (
            {"resources": {"cpus": 5, "memory_mb": 2_000, "disk_mb": 200, "gpus": 2}},
            {},
            {},
            {},
            [Code.LIMIT_EXCEEDED] * 4,
        ),
    ],
)
def test_judge__what_does_not_fit__every_reason(
    job: dict[str, Any],
    ordered: dict[str, Any],
    says: dict[str, Any],
    chain: dict[str, Any],
    wanted: list[Code],
) -> None:
    assert codes(job, ordered, says, chain) == wanted


@pytest.mark.parametrize(("how", "wanted"), [(COURT, [Code.COURT_REFUSED]), (0, [])])
def test_judge__a_quote_that_is_still_to_be_asked_for__its_judge_counts(
    how: int, wanted: list[Code]
) -> None:
    asked = Asked("http://agent", Listing.parse(published()))
    verdict = feasible.judge(MARKET, provider(), asked, spec(), judged=how)
    assert [refusal.code for refusal in verdict.refusals] == wanted


RISING = {"start_price": 100_000, "max_price": 2 * USD, "auction": 600}


@pytest.mark.parametrize(
    ("ordered", "says", "shown"),
    [
        # 10 TPF at 100 a token: 0.1 tokens, less than the 0.15 that it asks.
        ({}, {}, "yes"),
        ({**RISING}, {}, "yes, from 0.15 tUSD (in 16 s)"),
        ({**RISING, "collateral": 50 * TPF}, {}, "yes, from 0.5 tUSD (in 2 min 7 s)"),
        # Judged orders get less for a token, if the agent says so; other orders do not.
        (
            {**RISING, "collateral": 50 * TPF, "judged": COURT},
            {"accept_judged": "anyone", "judged_collateral_per_token": "50"},
            "yes, from 1 tUSD (in 4 min 45 s)",
        ),
        (
            {**RISING, "collateral": 50 * TPF},
            {"judged_collateral_per_token": "50"},
            "yes, from 0.5 tUSD (in 2 min 7 s)",
        ),
        (
            {**RISING, "collateral": 50 * TPF, "judged": COURT},
            {"accept_judged": "anyone"},
            "yes, from 0.5 tUSD (in 2 min 7 s)",
        ),
        (
            {**RISING, "collateral": 50 * TPF, "judged": COURT, "max_price": 999_999},
            {"accept_judged": "anyone", "judged_collateral_per_token": "50"},
            "no",
        ),
        ({**RISING, "collateral": 0}, {"collateral_per_token": "0", "price_per_hour": "1"}, "yes"),
        ({**RISING, "collateral": 1}, {"collateral_per_token": "0"}, "no"),
    ],
)
def test_show__price_that_rises__from_which_price_and_when(
    ordered: dict[str, Any], says: dict[str, Any], shown: str
) -> None:
    """A tenant must not read "yes" of an order that a provider refuses for the next minutes."""
    asked = Asked("http://agent", Listing.parse(published(**says)))
    wanted = order(**ordered)
    verdict = feasible.judge(MARKET, provider(), asked, spec(), wanted)
    ui = QuietUi()
    feasible.show(MARKET, ui, [verdict], wanted)
    assert ui.lines[0].split(" | ")[1] == shown


@pytest.mark.parametrize("per_token", ["50", "0.3", "7", "1.000001"])
@pytest.mark.parametrize("collateral", [1, TPF, 50 * TPF, 99 * TPF + 1])
def test_price_for__is_the_least_at_which_so_much_is_put_up(
    per_token: str, collateral: int
) -> None:
    listing = Listing.parse(published(judged_collateral_per_token=per_token))
    least = listing.price_for(collateral, USD, COURT)
    assert least is not None and listing.collateral(least, USD, COURT) >= collateral
    assert listing.collateral(least - 1, USD, COURT) < collateral
    assert listing.price_for(1_001 * TPF, USD, COURT) is None  # more than it puts up for any job


def test_lowest_price__collateral_needs_more_than_is_asked__the_offer_can_start_there() -> None:
    asked = Asked("http://agent", Listing.parse(published()))
    wanted = order(collateral=50 * TPF)
    verdict = feasible.judge(MARKET, provider(), asked, spec(), wanted)
    assert (verdict.price, feasible.lowest_price([verdict])) == (150_000, 500_000)
    assert feasible.to_json(verdict)["takes_from"] == "500000"


@pytest.mark.parametrize(
    ("says", "said", "not_said"),
    [
        ({"slots": {"total": 1, "promised": 1}}, "its slot is taken", "accept_judged"),
        ({"slots": {"total": 3, "promised": 3}}, "its 3 slots are taken", "accept_judged"),
        ({"runtimes": []}, "change the job", "try again"),
    ],
)
def test_refused__says_what_helps(says: dict[str, Any], said: str, not_said: str) -> None:
    asked = Asked("http://agent", Listing.parse(published(**says)))
    verdict = feasible.judge(MARKET, provider(), asked, spec(), order())
    ui = QuietUi()
    feasible.show(MARKET, ui, [verdict])
    with fails_as(Code.NOBODY_TAKES_IT) as caught:
        feasible.require([verdict])
    read = " ".join([*ui.lines, str(caught.value)])
    assert said in read and not_said not in read
    assert ("try again in a minute, or change the job" in read) == ("slots" in says)


@pytest.mark.parametrize(
    ("judged", "setting"), [(COURT, "accept_judged"), (Judged.REFUSABLE, "accept_refusable")]
)
def test_refused_for_its_judge__the_setting_and_what_to_ask_for(judged: int, setting: str) -> None:
    asked = Asked("http://agent", Listing.parse(published(accept_refusable=False)))
    verdict = feasible.judge(MARKET, provider(), asked, spec(), judged=judged)
    ui = QuietUi()
    feasible.show(MARKET, ui, [verdict])
    assert f"its setting `jobs.{setting}`" in ui.lines[0]
    assert "ask a provider to" in ui.lines[1] and setting in ui.lines[1] and len(ui.lines) == 2


def test_ask_providers__who_takes_it_first_the_cheapest_of_them_first() -> None:
    known = [
        provider(owner="0x" + f"{n}" * 40, endpoint=None if n == 5 else f"http://{n}")
        for n in range(1, 6)
    ]
    prices = {1: "3", 2: "1", 3: "2"}

    def asking(urls: Mapping[str, str], reach: Reach) -> dict[str, Asked]:
        found = {}
        for owner, url in urls.items():
            number = int(url[-1])
            if number == 4:
                found[owner] = Asked(url, None, "does not answer (timed out)")
                continue
            says = {"owner": owner, "price_per_hour": prices[number]}
            if number == 3:
                says["runtimes"] = []  # type: ignore[assignment]
            found[owner] = Asked(url, Listing.parse(published(**says)))
        return found

    ui = QuietUi()
    verdicts = feasible.ask_providers(MARKET, ui, known, spec(), order(), asking=asking)
    assert [verdict.provider.owner[2] for verdict in verdicts[:2]] == ["2", "1"]
    assert [verdict.takes_it for verdict in verdicts] == [True, True, False, False, False]
    assert feasible.lowest_price(verdicts) == 100_000
    feasible.require(verdicts)
    feasible.show(MARKET, ui, verdicts)
    said = "\n".join(ui.lines)
    for text in ("does not answer (timed out)", "announces no endpoint", "has no runtime"):
        assert text in said
    for left in (verdicts[2:], []):
        with fails_as(Code.NOBODY_TAKES_IT):
            feasible.require(left)
    assert feasible.lowest_price(verdicts[2:]) is None
