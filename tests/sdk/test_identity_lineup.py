# SPDX-License-Identifier: Apache-2.0
"""The hosts of one model side by side: who is at fault, who is not, and how they rank."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from teraproof.errors import LocalError
from teraproof.gateway.identity import Answer, Fault, Lineup, TokenizerCounter, lineup
from teraproof.gateway.identity.recount import Counter
from tests.sdk.answers import answer, entries

#: What a host makes of a prompt, by its number.
Host = Callable[[int], Answer]


class Words:
    """A tokenizer of words."""

    def count(self, text: str) -> int:
        return len(text.split())


def host(name: str, weights: int = 0, size: float = 0.01, **changes: object) -> Host:
    """A host that is honest but for the changes; `size` is its noise in nats."""

    def answers(prompt: int) -> Answer:
        model = random.Random(f"{weights} {prompt}")
        noise = random.Random(f"{name} {prompt}")
        return answer(entries(model, noise, size), **changes)

    return answers


def wordless(inner: Host) -> Host:
    """The same host without logprobs."""

    def answers(prompt: int) -> Answer:
        found = inner(prompt)
        return Answer(**{**found.__dict__, "fingerprint": None})

    return answers


def played(hosts: dict[str, Host], canaries: int = 200, trusted: Iterable[str] = ()) -> Lineup:
    """A line-up after as many canaries, each between two hosts at random."""
    rng = random.Random(3)
    found = Lineup(trusted=tuple(trusted))
    for prompt in range(canaries):
        one, other = rng.sample(sorted(hosts), 2)
        found.compare(one, hosts[one](prompt), other, hosts[other](prompt))
    return found


def faults(found: Lineup, names: Iterable[str]) -> dict[str, Fault | None]:
    return {name: found.verdict(name).fault for name in names}


HONEST = {name: host(name) for name in ("a", "b", "c")}


def test_honest_hosts__nothing_against_any() -> None:
    found = played(HONEST, 600)
    for name in HONEST:
        verdict = found.verdict(name)
        assert (verdict.fault, verdict.unsettled) == (None, False)
        assert verdict.line == "nothing against it"
        assert found.score(name) == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("bad", "fault", "line"),
    [
        (host("d", size=1.0), Fault.OTHER_QUANTISATION, "answers like other weights of this model"),
        (host("d", weights=1), Fault.OTHER_MODEL, "answers like another model"),
        (wordless(host("d", weights=1)), Fault.OTHER_MODEL, "answers like another model"),
        (host("d", text="w0"), Fault.TRUNCATES, "ends its answers early"),
        (host("d", prompt_tokens=60), Fault.OVERCOUNTS, "charges more tokens than there are"),
    ],
)
def test_one_host_of_four_is_faulty__it_alone_is_at_fault(
    bad: Host, fault: Fault, line: str
) -> None:
    hosts = {**HONEST, "d": bad}
    if fault is Fault.TRUNCATES:
        hosts["d"] = lambda prompt: Answer(
            **{**HONEST["a"](prompt).__dict__, "text": HONEST["a"](prompt).text[:20]}
        )
    found = played(hosts, 400)
    assert faults(found, hosts) == {"a": None, "b": None, "c": None, "d": fault}
    assert found.verdict("d").line == f"{line}, unlike a, b, c"
    assert found.verdict("d").against == ("a", "b", "c")
    assert not any(found.verdict(name).unsettled for name in HONEST)
    assert found.score("d") == 0
    assert found.score("a") > 0.9


def test_two_hosts_that_differ__unsettled_until_a_trusted_one_says() -> None:
    hosts = {"a": host("a"), "b": host("b", weights=1)}
    found = played(hosts)
    assert faults(found, hosts) == {"a": None, "b": None}
    assert found.verdict("a").unsettled and found.verdict("b").unsettled
    assert found.verdict("a").line == "unlike b, and nothing says which is wrong"
    found = played(hosts, trusted=["a"])
    assert faults(found, hosts) == {"a": None, "b": Fault.OTHER_MODEL}
    assert found.verdict("b").line == "answers like another model, unlike a"


def test_two_against_two__nobody_is_at_fault() -> None:
    hosts = {
        "a": host("a"),
        "b": host("b"),
        "c": host("c", weights=1),
        "d": host("d", weights=1),
    }
    found = played(hosts, 800)
    assert set(faults(found, hosts).values()) == {None}
    assert all(found.verdict(name).unsettled for name in hosts)


def test_trusted_host__is_not_voted_down() -> None:
    hosts = {**HONEST, "own": host("own", weights=1)}
    found = played(hosts, 600, trusted=["own"])
    assert found.verdict("own").fault is None
    assert faults(found, HONEST) == dict.fromkeys(HONEST, Fault.OTHER_MODEL)


def test_host_that_goes_on_without_end__does_not_make_others_look_cut() -> None:
    def endless(prompt: int) -> Answer:
        fields = dict(HONEST["a"](prompt).__dict__)
        return Answer(**{**fields, "text": fields["text"] * 3, "completion_tokens": 48})

    hosts = {**HONEST, "d": endless}
    found = played(hosts, 600)
    assert faults(found, HONEST) == dict.fromkeys(HONEST)


def test_sampled_answers_cut_in_half__found_without_greedy_requests() -> None:
    def sampled(name: str, part: float) -> Host:
        def answers(prompt: int) -> Answer:
            length = random.Random(f"{name} {prompt}").randint(60, 100)
            return answer(text="x" * int(length * part), greedy=False)

        return answers

    hosts = {name: sampled(name, 1) for name in "abc"} | {"d": sampled("d", 0.5)}
    found = played(hosts, 600)
    assert faults(found, hosts) == {"a": None, "b": None, "c": None, "d": Fault.TRUNCATES}


def test_tokens_that_the_text_cannot_have__found_without_another_host() -> None:
    def live(counter: Counter | None, **changes: Any) -> Fault | None:
        found = Lineup(counter=counter)
        for _ in range(20):
            found.observe("a", answer(**changes))
        return found.verdict("a").fault

    text = "one two three four"
    assert live(Words(), text=text, completion_tokens=8) is None
    assert live(Words(), text=text, completion_tokens=9) is Fault.OVERCOUNTS
    assert live(None, text=text, completion_tokens=len(text) + 4) is None
    assert live(None, text=text, completion_tokens=len(text) + 5) is Fault.OVERCOUNTS
    # A tool call or hidden reasoning has tokens that are not in the text.
    assert live(Words(), text=text, completion_tokens=900, whole=False) is None


def test_tokenizer_without_its_package__one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(LocalError) as caught:
        TokenizerCounter(Path("tokenizer.json"))
    assert str(caught.value) == (
        "a tokenizer needs the package tokenizers: pip install 'teraproof[tokenizers]'"
    )


def test_more_tokens_than_logprobs__found_without_a_tokenizer() -> None:
    found = Lineup()
    logprobs = entries(random.Random(1), random.Random(2), 0.01)
    for _ in range(20):
        found.observe("a", answer(logprobs, completion_tokens=21))
        found.observe("b", answer(logprobs, completion_tokens=20))
    assert faults(found, "ab") == {"a": Fault.OVERCOUNTS, "b": None}
    assert found.verdict("a").line == "charges more tokens than there are: 20 of 20 answers"


def test_end_by_length_before_the_length__is_truncation() -> None:
    found = Lineup()
    for _ in range(20):
        found.observe("a", answer(finish="length", completion_tokens=10, asked=100))
        found.observe("b", answer(finish="length", completion_tokens=10, asked=10))
    assert faults(found, "ab") == {"a": Fault.TRUNCATES, "b": None}


def test_canaries__at_the_stated_rate_and_spread_over_the_peers() -> None:
    rng = random.Random(8)
    found = Lineup(rate=0.05)
    peers = {"b": 0, "c": 0, None: 0}
    for _ in range(lineup.NEW):
        assert found.canary("a", ["a", "b", "c"], lineup.NEW_RATE - 1e-9) in ("b", "c")
        found.observe("a", answer())
    for _ in range(20_000):
        peers[found.canary("a", ["a", "b", "c"], rng.random())] += 1
    assert 400 < peers["b"] < 600 and 400 < peers["c"] < 600
    assert found.canary("a", ["a"], 0.0) is None
    assert found.canary("a", [], 0.0) is None


def test_canaries__of_a_new_host_are_never_fewer_than_of_others() -> None:
    found = Lineup(rate=1.0)
    for _ in range(2 * lineup.NEW):
        assert found.canary("a", ["a", "b"], 1 - 1e-9) == "b"
        found.observe("a", answer())


def test_canaries__go_to_a_trusted_host_where_there_is_one() -> None:
    found = Lineup(trusted=["c"])
    asked = {found.canary("a", ["b", "c"], draw / 100) for draw in range(25)}
    assert asked == {"c"}


def test_strangers__are_kept_within_bounds() -> None:
    found = Lineup()
    for number in range(lineup.HOSTS + 50):
        found.compare(f"{number}", answer(), f"{number + 1}", answer())
    assert len(found._hosts) == lineup.HOSTS
    assert len(found._pairs) <= lineup.PAIRS
    assert found.verdict("0").line == "not seen yet"


def test_forgotten_host__begins_again() -> None:
    hosts = {**HONEST, "d": host("d", weights=1)}
    found = played(hosts, 400)
    found.forget("d")
    assert found.verdict("d").fault is None and found.verdict("d").canaries == 0
    assert faults(found, HONEST) == dict.fromkeys(HONEST)


def test_host_compared_with_itself__shows_nothing() -> None:
    found = Lineup()
    found.compare("a", HONEST["a"](1), "a", HONEST["b"](1))
    assert found.verdict("a").canaries == 0


def test_score__falls_with_broken_schemas_and_not_below_zero() -> None:
    found = Lineup()
    for number in range(90):
        found.observe("a", answer(valid=True))
        found.observe("b", answer(valid=number % 20 != 0))
    assert 0 < found.score("b") < found.score("a") < 1
    assert found.score("b") < found.score("new") < found.score("a")
