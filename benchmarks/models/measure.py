# SPDX-License-Identifier: Apache-2.0
"""`make bench-models`: runs the hosts, plays them through the rules, writes docs/model-identity.md.

Hosts are recorded once; `--again` records them again.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import mean, median, quantiles

from rich.progress import Progress

from benchmarks import pages
from benchmarks.models import places, record, replay, vocabulary
from benchmarks.models.prompts import PROMPTS
from benchmarks.models.replay import SHOWN, Played
from teraproof.gateway.identity import Answer, Counter, TokenizerCounter
from teraproof.gateway.identity.compare import RULES, Kind
from teraproof.gateway.identity.lineup import ALONE
from teraproof.gateway.identity.recount import most_tokens
from teraproof.gateway.identity.validity import Validity, answers_until_below, wilson
from teraproof.gateway.identity.watch import Rule, binomial_tail

PAGE = places.ROOT / "docs" / "model-identity.md"
RECORDS = places.BUILD / "records"
RUNS, REQUESTS, SEED = 50, 10_000, 20261130
#: Runs of honest hosts alone, and those in which every request is a canary.
ALARM_RUNS, FULL_RUNS = 400, 20

Tables = dict[str, Callable[[], str]]


# ------------------------------------------------------------------ tables without a model


def rules() -> str:
    """The rules: how often an observation is a hit, and what follows for both errors."""
    head = [
        "observation",
        "honest, at most",
        "found fastest",
        "false alarm in 1,000",
        "mean",
        "99 %",
    ]
    named: list[tuple[str, Rule]] = [(kind.value, rule) for kind, rule in RULES.items()]
    rows = [
        [
            name,
            f"{rule.honest:g}",
            f"{rule.faulty:g}",
            f"{rule.false_alarm(1000):g}",
            f"{rule.mean_until(rule.faulty):.0f}",
            f"{rule.enough(rule.faulty)}",
        ]
        for name, rule in [*named, ("tokens, ends", ALONE)]
    ]
    return pages.table(head, rows, left=1)


def schemas() -> str:
    """Answers of each host until one that breaks 5 % ranks below a clean one."""
    rng = random.Random(SEED)
    rows = []
    for clean in (0.0, 0.002, 0.005, 0.01):
        answers = answers_until_below(clean, 0.05)
        below = sum(_ranks_below(rng, clean, 0.05, answers) for _ in range(1000))
        rows.append(
            [f"{100 * clean:g} %", f"{answers}", f"{below / 10:.1f} %", _interval(below, 1000)]
        )
    return pages.table(["the clean one breaks", "answers", "below, of 1,000", "95 %"], rows)


def _ranks_below(rng: random.Random, clean: float, broken: float, answers: int) -> bool:
    good, bad = Validity(), Validity()
    for _ in range(answers):
        good.observe(rng.random() >= clean)
        bad.observe(rng.random() >= broken)
    return bad.rank(good) < good.rank(bad)


# ------------------------------------------------------------------------ tables of records


class Measured:
    """The tables that need recorded hosts."""

    NAMES = ("noise", "words", "found", "alarms", "counts")

    def __init__(self, hosts: dict[str, Played], counter: Counter) -> None:
        self._hosts = hosts
        self._counter = counter
        self._honest = [hosts[each.name] for each in record.HOSTS if each.honest]
        self._others = [hosts[each.name] for each in record.HOSTS if not each.honest]

    def tables(self) -> Tables:
        """All of them, by name."""
        return {name: getattr(self, name) for name in self.NAMES}

    def noise(self) -> str:
        """Distances between hosts on prompts that no tolerance was chosen on."""
        rows = []
        for number, one in enumerate(self._honest):
            for other in self._honest[number + 1 :]:
                rows.append(self._apart(f"{one.name} / {other.name}", [one], other))
        rows += [self._apart(f"**{each.name}**", self._honest, each) for each in self._others]
        head = ["hosts", "canaries", "median", "95 %", "most", "hits", "95 %"]
        return pages.table(head, rows, left=1)

    def _apart(self, name: str, ones: Sequence[Played], other: Played) -> list[str]:
        found = [
            each
            for one in ones
            for each in replay.comparisons(one, other, SHOWN)
            if each.kind is Kind.WEIGHTS
        ]
        distances = sorted(each.distance for each in found)
        hits = sum(each.first for each in found)
        high = quantiles(distances, n=20, method="inclusive")[-1]
        figures = [f"{each:.3f}" for each in (median(distances), high, distances[-1])]
        rate = f"{100 * hits / len(found):.1f} %"
        return [name, f"{len(found)}", *figures, rate, _interval(hits, len(found))]

    def words(self) -> str:
        """The same without logprobs, and answers that stop where others go on."""
        first, second = self._honest[:2]
        cuts = [
            replay.changed(first, f"answers cut to {100 * part:.0f} %", replay.cut(part))
            for part in (0.5, 0.8)
        ]
        pairs = [
            (f"{one.name} / {other.name}", one, other)
            for number, one in enumerate(self._honest)
            for other in self._honest[number + 1 :]
        ]
        pairs += [(f"**{each.name}**", second, each) for each in [*self._others, *cuts]]
        rows = []
        for name, one, other in pairs:
            bare = replay.changed(one, one.name, replay.without_logprobs)
            other = replay.changed(other, other.name, replay.without_logprobs)
            cells = [name]
            for kind in (Kind.WORDS, Kind.CUT):
                found = [
                    each for each in replay.comparisons(bare, other, SHOWN) if each.kind is kind
                ]
                hits = sum(each.second for each in found)
                cells += (
                    [f"{100 * hits / len(found):.1f} %", _interval(hits, len(found))]
                    if found
                    else ["", ""]
                )
            rows.append(cells)
        head = ["hosts", "begin differently", "95 %", "the second is cut", "95 %"]
        return pages.table(head, rows, left=1)

    def found(self) -> str:
        """A dishonest host among three honest ones: after how many of its requests it is found."""
        bare = [replay.changed(each, each.name, replay.without_logprobs) for each in self._honest]
        first, second = self._honest[:2]
        asked: list[tuple[str, Sequence[Played], Played, float]] = []
        for bad in self._others:
            asked += [(bad.name, self._honest, bad, 0.02), ("", self._honest, bad, 0.05)]
        for part in (0.5, 0.8):
            name = f"answers cut to {100 * part:.0f} %"
            hosts = [first, second, replace(first, name="reseller")]
            bad = replay.changed(first, name, replay.cut(part))
            asked += [(name, hosts, bad, 0.02), ("", hosts, bad, 0.05)]
        for bad in self._others:
            silent = replay.changed(bad, f"{bad.name}, no logprobs", replay.without_logprobs)
            asked.append((silent.name, bare, silent, 0.05))
        for part in (0.1, 0.2):
            name = f"counts {100 * part:.0f} % too many tokens"
            bad = replay.changed(first, name, replay.extra(part))
            asked.append((bad.name, self._honest, bad, 0.02))
        rows = side_by_side([partial(self._trials, *each) for each in asked])
        return pages.table(_FOUND, rows, left=1)

    def _trials(
        self,
        name: str,
        honest: Sequence[Played],
        bad: Played,
        rate: float,
    ) -> list[str]:
        rng = random.Random(f"{SEED} {bad.name} {rate}")
        trials = [
            replay.trial(
                [*honest, bad],
                bad.name,
                REQUESTS,
                rng,
                rate,
                self._counter,
            )
            for _ in range(RUNS)
        ]
        found = [each for each in trials if each.found is not None]
        accused = sum(bool(each.accused) for each in trials)
        needed = sorted(each.found or 0 for each in found)
        figures = ["", "", ""]
        if found:
            figures = [
                f"{mean(each.canaries for each in found):.0f}",
                f"{mean(needed):.0f}",
                f"{needed[int(0.95 * (len(needed) - 1))]}",
            ]
        return [name, f"{100 * rate:g} %", f"{len(found)} of {RUNS}", *figures, f"{accused}"]

    def alarms(self) -> str:
        """Honest hosts alone: runs of 10,000 requests with a host that is accused of anything."""
        bare = [replay.changed(each, each.name, replay.without_logprobs) for each in self._honest]
        asked = [
            partial(self._alarms, name, hosts, rate)
            for name, hosts in (("logprobs", self._honest), ("no logprobs", bare))
            for rate in (0.02, 0.05, 1.0)
        ]
        head = ["hosts", "canaries", "runs with an alarm", "95 %"]
        return pages.table(head, side_by_side(asked), left=1)

    def _alarms(self, name: str, hosts: Sequence[Played], rate: float) -> list[str]:
        rng = random.Random(f"{SEED} {name} {rate}")
        runs, wrong = FULL_RUNS if rate == 1 else ALARM_RUNS, 0
        for _ in range(runs):
            found = replay.trial(hosts, None, REQUESTS, rng, rate, self._counter)
            wrong += bool(found.accused or found.unsettled)
        low, high = exact(wrong, runs)
        return [name, f"{100 * rate:g} %", f"{wrong} of {runs}", f"{low:.3f} to {high:.3f}"]

    def counts(self) -> str:
        """Tokens that honest hosts charged against the most that the recount allows."""
        rows = []
        for name, sampled in (("greedy", False), ("sampled at 0.8", True)):
            answers = self._honest[0].sampled if sampled else self._honest[0].greedy
            ratios = [_ratio(each, self._counter) for each in answers]
            above = sum(each.completion_tokens > _most(each, self._counter) for each in answers)
            rows.append(
                [
                    name,
                    f"{len(answers)}",
                    f"{mean(ratios):.4f}",
                    f"{max(ratios):.4f}",
                    f"{above}",
                    _interval(above, len(answers)),
                ]
            )
        head = ["answers", "number", "charged per token, mean", "most", "above the bound", "95 %"]
        return pages.table(head, rows, left=1)


_CALLS: list[Callable[[], list[str]]] = []  # of the processes that `side_by_side` forks


def side_by_side(calls: Sequence[Callable[[], list[str]]]) -> list[list[str]]:
    """What each call gives, in their order; as many at once as there are processors, and as many
    again, since others may use them.
    """
    _CALLS[:] = calls
    at_once = min(len(calls), 2 * (os.cpu_count() or 1))
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(_call, range(len(calls))))


def _call(number: int) -> list[str]:
    return _CALLS[number]()


_FOUND = ["host", "canaries", "found", "comparisons, mean", "its requests, mean", "95 %", "accused"]


def _ratio(answer: Answer, counter: Counter) -> float:
    return answer.completion_tokens / max(1, counter.count(answer.text))


def _most(answer: Answer, counter: Counter) -> int:
    most = most_tokens(answer, counter)
    assert most is not None
    return most


def _interval(hits: int, trials: int) -> str:
    low, high = wilson(hits, trials)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def exact(hits: int, trials: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) at 95 %: it is never too short."""

    def solve(tail: Callable[[float], float]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle) < 0.025 else (low, middle)
        return low

    lower = 0.0 if hits == 0 else solve(lambda rate: binomial_tail(trials, rate, hits))
    upper = 1.0
    if hits < trials:
        upper = 1 - solve(lambda rate: binomial_tail(trials, rate, trials - hits))
    return lower, upper


# ---------------------------------------------------------------------------------- command


class Remembered:
    """Counts each text once: the same answers are played many times."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._found: dict[str, int] = {}

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        if text not in self._found:
            self._found[text] = self._counter.count(text)
        return self._found[text]


async def recorded(again: bool) -> dict[str, Played]:
    """Every host, from its record or by running it."""
    if again:
        shutil.rmtree(RECORDS, ignore_errors=True)
    found: dict[str, Played] = {}
    first: record.Record | None = None
    with Progress() as progress:
        for host in record.HOSTS:
            total = (2 if host.sampled else 1) * len(PROMPTS)
            task = progress.add_task(host.name, total=total)
            kept = await record.record(host, RECORDS, partial(progress.advance, task), first)
            progress.update(task, completed=total)
            first = first or kept
            found[host.name] = replay.played(host, kept, first)
    return found


def fixed() -> Tables:
    """The tables that follow from the rules alone."""
    return {"rules": rules, "schemas": schemas}


def main(words: Sequence[str] | None = None) -> int:
    """Writes the page; 0 when it is written."""
    parser = argparse.ArgumentParser(prog="make bench-models", description=__doc__)
    parser.add_argument("--again", action="store_true", help="run every host again")
    asked = parser.parse_args(words)
    try:
        hosts = asyncio.run(recorded(asked.again))
        counter = Remembered(TokenizerCounter(vocabulary.tokenizer_file(places.chat_weights())))
    except places.NotInstalled as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tables = {**fixed(), **Measured(hosts, counter).tables()}
    PAGE.write_text(pages.filled(PAGE.read_text("utf-8"), tables, PAGE.name), "utf-8")
    print(f"wrote {PAGE.relative_to(places.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
