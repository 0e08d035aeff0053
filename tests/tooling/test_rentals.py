# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the siege and the load of leases: answers, outages, heartbeats, blows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from benchmarks.rentals.blows import Bounds, Target, blows
from benchmarks.rentals.command import conclude
from benchmarks.rentals.load import Figures, Quiet
from benchmarks.rentals.nodes import Node
from benchmarks.rentals.rent import (
    Probe,
    Reading,
    Seen,
    excess,
    most_beats,
    quantile,
    top_level,
)
from benchmarks.rentals.siege import BOUNDS as SIEGE
from benchmarks.rentals.siege import REAL, SHORT, TEN_MINUTES, Account, Outcome

BOUNDS = Bounds(gone=(2, 40), silence=(60, 90), fleet=(20, 70), rest=(15, 30))


def probes(said: str, every: float = 1.0) -> list[Probe]:
    """One request each `every` seconds: `+` was answered, `-` was not."""
    return [Probe(number * every, sign == "+") for number, sign in enumerate(said)]


def seen(said: str, longest: float = 2.0) -> Seen:
    """A service from its first request to its last."""
    asked = probes(said)
    found = Seen.of(asked, 0.0, asked[-1].at, longest)
    return Seen(found.answered, found.outages)


# ------------------------------------------------------------------ what was seen


def test_seen__always_answered__the_whole_time_and_no_outage() -> None:
    assert seen("+++++") == Seen(4.0, ())


def test_seen__never_answered__one_outage_of_the_whole_time() -> None:
    assert seen("-----") == Seen(0.0, (4.0,))


def test_seen__an_outage__from_the_last_answer_to_the_next_one() -> None:
    assert seen("++--++") == Seen(2.0, (3.0,))


def test_seen__two_outages__by_themselves() -> None:
    assert seen("-++-++--") == Seen(2.0, (1.0, 2.0, 2.0))


def test_seen__one_answer_between_silences__is_worth_nothing() -> None:
    assert seen("--+--") == Seen(0.0, (4.0,))


def test_seen__nobody_asked_for_a_while__counts_as_silence() -> None:
    asked = [Probe(0, True), Probe(1, True), Probe(9, True), Probe(10, True)]
    assert Seen.of(asked, 0, 10, 2.0) == Seen(2.0, (8.0,), (1.0,))


def test_seen__requests_outside_the_time__count_for_nothing() -> None:
    asked = probes("++++++++++")
    assert Seen.of(asked, 2.5, 6.5, 2.0) == Seen(4.0, ())


def test_seen__no_request_at_all__one_outage() -> None:
    assert Seen.of([], 3.0, 8.0, 2.0) == Seen(0.0, (5.0,), (3.0,))


@pytest.mark.parametrize("said", ["+", "-", "+-+", "--++-+-+++--", "++++----++++"])
def test_seen__answers_and_outages__are_the_whole_time(said: str) -> None:
    found = seen(said)
    assert found.answered + sum(found.outages) == len(said) - 1


# ------------------------------------------------------------------ what may be paid


def test_most__short_outage__its_own_length() -> None:
    assert Seen(100.0, (3.0,)).most(25) == 103.0


def test_most__long_outage__the_allowance() -> None:
    assert Seen(100.0, (90.0,)).most(25) == 125.0


def test_most__each_outage_has_its_own_allowance() -> None:
    assert Seen(10.0, (90.0, 90.0, 5.0)).most(25) == 65.0


@pytest.mark.parametrize(("paid", "holds"), [(124, True), (125, True), (126, False)])
def test_account__paid_beyond_the_most__does_not_hold(paid: int, holds: bool) -> None:
    assert Account(paid, 100.0, (90.0,), 125.0, -1.0).holds is holds


@pytest.mark.parametrize(("beyond", "holds"), [(-20.0, True), (2.0, True), (2.1, False)])
def test_account__little_paid_but_too_much_in_one_outage__does_not_hold(
    beyond: float, holds: bool
) -> None:
    assert Account(50, 100.0, (90.0,), 125.0, beyond).holds is holds


def test_seen__outages__are_known_by_their_begin() -> None:
    asked = probes("++--++---+")
    found = Seen.of(asked, 0.0, 9.0, 2.0)
    assert (found.outages, found.begins) == ((3.0, 4.0), (1.0, 5.0))


METER = [Reading(float(at), due) for at, due in ((0, 0), (10, 10), (20, 20), (30, 25), (60, 25))]


@pytest.mark.parametrize(
    ("begin", "seconds", "allowance", "beyond"),
    [
        (20.0, 40.0, 5.0, 0.0),  # five seconds came to be due
        (20.0, 40.0, 3.0, 2.0),
        (20.0, 40.0, 25.0, -20.0),
        (20.0, 2.0, 25.0, -2.0),  # no reading in it
        (15.0, 45.0, 5.0, 5.0),  # five of the fifteen were due in answered time
    ],
)
def test_excess__what_came_to_be_due_in_an_outage(
    begin: float, seconds: float, allowance: float, beyond: float
) -> None:
    assert excess(METER, begin, seconds, allowance) == beyond


def test_excess__nothing_was_read__nothing_is_known() -> None:
    assert excess([], 1.0, 5.0, 10.0) < 0


# ------------------------------------------------------------------ the verdicts


def outcome(**changes: object) -> Outcome:
    """A siege in which all went well."""
    values: dict[str, object] = {
        "seed": 1,
        "seconds": 100.0,
        "drift": 0.0,
        "blows": (),
        "clock": SHORT,
        "detection": 13,
        "accounts": (Account(90, 90.0, (), 92.0, -25.0),),
        "guests": 3,
        "seized": 0,
        "accused": (),
        "ended": (),
        "most_programs": 1,
        "left": {},
        **changes,
    }
    return Outcome(**values)  # type: ignore[arg-type]  # as each test says


def test_outcome__all_well__no_fault() -> None:
    assert outcome().faults == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"accounts": (Account(93, 90.0, (), 92.0, -25.0),)}, "paid for 93 s"),
        ({"accounts": (Account(0, 0.0, (90.0,), 25.0, -25.0),)}, "has never answered"),
        ({"accused": ("accuse 12ab",)}, "accuse 12ab"),
        ({"ended": ("lease 0 is NONE",)}, "lease 0 is NONE"),
        ({"seized": 2}, "collateral of 2 leases"),
        ({"most_programs": 2}, "2 programs"),
        ({"left": {"containers": 1}}, "1 containers are left"),
    ],
)
def test_outcome__each_broken_promise__is_named(changes: dict[str, object], fault: str) -> None:
    (found,) = outcome(**changes).faults
    assert fault in found


def figures(held: tuple[int, int], idle: tuple[int, int] = (0, 0), **left: int) -> Figures:
    """A load with these heartbeats and other transactions in 120 s at rest and in 60 s idle."""
    rest, none = Quiet(120.0, 1.0, 80.0, 60, *held), Quiet(60.0, 1.0, 80.0, 60, *idle)
    return Figures(
        wanted=1,
        leases=1,
        at_once=1,
        short="",
        hired_in=1.0,
        opened_to_running=[1.0],
        cpu_before=1.0,
        cpu_hiring=1.0,
        rss_before=70.0,
        rss_after=80.0,
        period=40,
        held=rest,
        idle=none,
        busy=1.0,
        left=left,
    )


@pytest.mark.parametrize("beats", [1, 3, 4])
def test_figures__one_heartbeat_a_period__no_fault(beats: int) -> None:
    assert figures((beats, 0)).faults == []


def test_figures__each_broken_promise__is_named() -> None:
    assert "0 heartbeats" in figures((0, 0)).faults[0]
    assert "5 heartbeats" in figures((5, 0)).faults[0]
    assert "2 transactions besides" in figures((3, 2)).faults[0]
    assert "1 transactions without a lease" in figures((3, 0), (0, 1)).faults[0]
    assert "1 transactions without a lease" in figures((3, 0), (1, 0)).faults[0]
    assert "3 mounts are left" in figures((3, 0), mounts=3).faults[0]


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize(
    ("part", "value"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.951, 96), (1.0, 100)]
)
def test_quantile__of_a_hundred(part: float, value: int) -> None:
    assert quantile(range(100, 0, -1), part) == value


def test_quantile__of_one__that_one() -> None:
    assert quantile([7.0], 0.95) == quantile([7.0], 0.0) == 7.0


def test_most_beats__as_many_as_fit_wherever_the_first_one_falls() -> None:
    assert [most_beats(seconds, 40) for seconds in (10, 39, 40, 120, 121)] == [1, 1, 2, 4, 4]


def test_top_level__what_another_one_started__does_not_count() -> None:
    assert list(top_level([(10, 1), (11, 10), (12, 11), (20, 2)])) == [10, 20]


# ------------------------------------------------------------------ blows


def test_blows__same_seed__the_same() -> None:
    assert list(blows(7, 3, BOUNDS)) == list(blows(7, 3, BOUNDS))
    assert list(blows(7, 3, BOUNDS)) != list(blows(8, 3, BOUNDS))


def test_blows__each_target_once_a_round_and_one_after_the_other() -> None:
    found, all_ = list(blows(3, 2, BOUNDS, tuple(Target))), len(Target)
    assert {one.target for one in found[:all_]} == {one.target for one in found[all_:]}
    assert len({one.target for one in found}) == all_
    ended = 0.0
    for one in found:
        assert BOUNDS.rest[0] <= one.at - ended <= BOUNDS.rest[1]
        least, most = {
            Target.SILENCE: BOUNDS.silence,
            Target.RAY: BOUNDS.fleet,
        }.get(one.target, BOUNDS.gone)
        assert least <= one.seconds <= most
        ended = one.at + one.seconds


def test_blows__one_machine__nothing_of_a_fleet() -> None:
    assert {one.target for one in blows(3, 1, BOUNDS)} == set(Target) - {Target.RAY}


def test_bounds__silence_is_longer_than_what_is_paid_without_a_heartbeat() -> None:
    assert SIEGE.silence[0] > SHORT.max_gap
    assert REAL.max_gap < TEN_MINUTES < REAL.abandon
    assert SIEGE.silence[1] < SHORT.abandon


# ------------------------------------------------------------------ nodes


@pytest.fixture
def node() -> Iterator[Node]:
    """A node in front of a chain that says `pong` to everything."""

    class Chain(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"pong")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chain) as chain:
        threading.Thread(target=chain.serve_forever, daemon=True).start()
        with Node(f"http://127.0.0.1:{chain.server_address[1]}") as made:
            yield made
        chain.shutdown()


def ask(node: Node) -> str:
    return httpx.get(node.url, timeout=2.0, trust_env=False).text


def test_node__passes_on_what_it_is_asked(node: Node) -> None:
    assert ask(node) == "pong"


def test_node__killed__refuses__and_answers_at_the_same_place_once_it_is_back(node: Node) -> None:
    node.kill()
    with pytest.raises(httpx.ConnectError):
        ask(node)
    node.start()
    assert ask(node) == "pong"


def test_node__hangs__takes_the_request_and_says_nothing__until_it_goes_on(node: Node) -> None:
    node.hang()
    with pytest.raises(httpx.ReadTimeout):
        ask(node)
    node.go_on()
    assert ask(node) == "pong"


# ------------------------------------------------------------------ the end of a run


def test_conclude__all_well__figures_are_kept_and_the_code_is_0(tmp_path: Path) -> None:
    kept = tmp_path / "new" / "figures.json"
    assert conclude(outcome(), kept) == 0
    assert json.loads(kept.read_text())["faults"] == []


def test_conclude__a_broken_promise__is_named_kept_and_the_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "figures.json"
    assert conclude(outcome(seized=2), kept) == 1
    assert "collateral of 2 leases" in capsys.readouterr().out
    assert json.loads(kept.read_text())["seized"] == 2
