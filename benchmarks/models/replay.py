# SPDX-License-Identifier: Apache-2.0
"""Recorded answers played again through the rules of the gateway, for each figure by itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.models.prompts import PROMPTS
from benchmarks.models.record import LONGEST, Host, Record
from teraproof.gateway.identity import Answer, Counter, Lineup, read_logprobs
from teraproof.gateway.identity.compare import Observation, observations

#: Requests between two looks at a host that is in no canary.
LOOK = 20
#: The prompts that the tolerances were chosen on, and those that every table is made of.
CHOSEN, SHOWN = range(0, len(PROMPTS), 2), range(1, len(PROMPTS), 2)


@dataclass(frozen=True)
class Played:
    """A host as its recorded answers, by the number of the prompt."""

    name: str
    greedy: Sequence[Answer]
    sampled: Sequence[Answer] = ()


def played(host: Host, record: Record, first: Record) -> Played:
    """The answers in the record of a host; `first` is the record by which others were scored."""
    greedy = [_answer(each, True) for each in record["greedy"]]
    if not host.whole:
        greedy = [replace(each, whole=False, asked=each.completion_tokens) for each in greedy]
    elif host.scored:
        greedy = [
            _went_on(answer, kept, other)
            for answer, kept, other in zip(greedy, record["greedy"], first["greedy"], strict=True)
        ]
    return Played(host.name, greedy, [_answer(each, False) for each in record["sampled"]])


def _answer(kept: Record, greedy: bool) -> Answer:
    entries = kept["entries"]
    text = b"".join(bytes(each["bytes"]) for each in entries).decode("utf-8", "replace")
    return Answer(
        text=text,
        finish=kept["end"],
        prompt_tokens=kept["prompt"],
        completion_tokens=len(entries),
        asked=LONGEST,
        greedy=greedy,
        fingerprint=read_logprobs(entries),
    )


def _went_on(answer: Answer, kept: Record, first: Record) -> Answer:
    """The answer of a host that was scored.

    After the first other token nothing of it is known. If it goes on where the first host ended,
    it counts as going on for long, so that the first host has cut its answer.
    """
    if kept["end"] == "stop" or kept["tokens"] == first["tokens"]:
        return answer
    goes_on = first["end"] == "stop" and kept["tokens"][:-1] == first["tokens"]
    text = answer.text + "." * len(answer.text) if goes_on else answer.text
    # It did not end by length: it was not asked for more.
    return replace(answer, text=text, asked=answer.completion_tokens)


def changed(host: Played, name: str, change: Callable[[Answer], Answer]) -> Played:
    """A dishonest host made of an honest one."""
    return Played(name, [*map(change, host.greedy)], [*map(change, host.sampled)])


def cut(part: float) -> Callable[[Answer], Answer]:
    """Leaves out the end of an answer, and says that the model has ended there."""

    def change(answer: Answer) -> Answer:
        tokens = max(1, round(answer.completion_tokens * part))
        text = answer.text[: max(1, round(len(answer.text) * part))]
        mark = answer.fingerprint
        if mark is not None:
            mark = replace(mark, positions=mark.positions[:tokens], tokens=tokens)
        return replace(answer, text=text, finish="stop", completion_tokens=tokens, fingerprint=mark)

    return change


def without_logprobs(answer: Answer) -> Answer:
    """The same answer of a host that gives no logprobs."""
    return replace(answer, fingerprint=None)


def extra(part: float) -> Callable[[Answer], Answer]:
    """Counts too many tokens of the answer."""

    def change(answer: Answer) -> Answer:
        return replace(answer, completion_tokens=round(answer.completion_tokens * (1 + part)))

    return change


def comparisons(one: Played, other: Played, prompts: Sequence[int]) -> Iterator[Observation]:
    """What every greedy answer to these prompts shows."""
    for prompt in prompts:
        yield from observations(one.greedy[prompt], other.greedy[prompt])


@dataclass
class Trial:
    """One run of requests: when a host was found, and which others were accused.

    Args:
        found: the requests that the watched host had answered when it was found, or None.
        canaries: the comparisons that it was in by then.
        accused: other hosts with a fault at the end.
        unsettled: other hosts with an unsettled difference at the end.
    """

    found: int | None = None
    canaries: int = 0
    accused: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()


def trial(
    hosts: Sequence[Played],
    watched: str | None,
    requests: int,
    rng: random.Random,
    rate: float,
    counter: Counter | None = None,
) -> Trial:
    """Requests to random hosts, with canaries at this rate, until a host is found or they end."""
    lineup, result = Lineup(rate=rate, counter=counter), Trial()
    by_name = {host.name: host for host in hosts}
    names = [*by_name]
    asked = dict.fromkeys(names, 0)

    def answer(name: str, prompt: int) -> Answer:
        return by_name[name].greedy[prompt]

    for number in range(requests):
        name, prompt = rng.choice(names), rng.choice(SHOWN)
        asked[name] += 1
        # Whom to compare is drawn before the answer is known.
        peer = lineup.canary(name, names, rng.random())
        lineup.observe(name, answer(name, prompt))
        if peer is not None:
            lineup.compare(name, answer(name, prompt), peer, answer(peer, prompt))
        looks = watched is not None and (peer is not None or number % LOOK == 0)
        if looks and watched is not None and lineup.verdict(watched).fault is not None:
            result.found = asked[watched]
            result.canaries = lineup.verdict(watched).canaries
            break
    verdicts = {name: lineup.verdict(name) for name in names if name != watched}
    result.accused = tuple(name for name, found in verdicts.items() if found.fault is not None)
    result.unsettled = tuple(name for name, found in verdicts.items() if found.unsettled)
    return result
