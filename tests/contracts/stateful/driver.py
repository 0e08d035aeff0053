# SPDX-License-Identifier: Apache-2.0
"""Runs machines by seed: chooses actions, counts what they did, and makes a failure small.

Each step has a seed of its own, so a step that is left out changes no other step's choices: a
failing run is cut down by leaving steps out as long as it still fails in the same words.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
# Rounds of leaving out, so that a slow machine ends too.
SHRINK_SECONDS = 60.0
LEAST_RATE = 0.02
# Steps from one look at every view to the next.
AUDIT_EVERY = 50


@dataclass(frozen=True)
class Action:
    """One thing that an actor can do: how often, and when it can be tried at all."""

    name: str
    do: Callable[[Any], None]
    weight: float
    when: Callable[[Any], Any]


def action(
    weight: float = 1.0, when: Callable[[Any], Any] = lambda machine: True
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Mark a method of a machine as an action; a falsy `when` leaves it out of a step's choices."""

    def mark(do: Callable[[Any], None]) -> Callable[[Any], None]:
        do.action = Action(do.__name__, do, weight, when)  # type: ignore[attr-defined]
        return do

    return mark


def actions_of(machine: type) -> tuple[Action, ...]:
    """The actions of a class and its bases, by name."""
    found = {name: getattr(machine, name) for name in dir(machine)}
    return tuple(f.action for _, f in sorted(found.items()) if hasattr(f, "action"))


@dataclass
class Tally:
    """What a run did; prints as the table of actions."""

    ok: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    """Tries that must be refused, whatever the state."""
    notes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        return self.ok.total() + self.refused.total() + self.hostile.total()

    def add(self, other: Tally) -> None:
        self.ok += other.ok
        self.refused += other.refused
        self.hostile += other.hostile
        for name, count in other.notes.items():
            most = name.startswith("most ")
            self.notes[name] = max(self.notes[name], count) if most else self.notes[name] + count
        self.seconds = max(self.seconds, other.seconds)

    def rate(self, name: str) -> float:
        """The share of tries that went through, of those that could."""
        tries = self.ok[name] + self.refused[name]
        return self.ok[name] / tries if tries else 0.0

    def rare(self) -> list[str]:
        """Calls that went through in less than LEAST_RATE of their tries."""
        names = set(self.ok) | set(self.refused)
        return sorted(name for name in names if self.rate(name) < LEAST_RATE)

    def lines(self) -> list[str]:
        lines = [f"{'call':<34}{'ok':>9}{'refused':>9}{'ok %':>7}{'hostile, refused':>18}"]
        for name in sorted(set(self.ok) | set(self.refused) | set(self.hostile)):
            tried = self.ok[name] + self.refused[name]
            share = f"{100 * self.rate(name):.0f}" if tried else "-"
            numbers = f"{self.ok[name]:>9,}{self.refused[name]:>9,}{share:>7}"
            lines.append(f"{name:<34}{numbers}{self.hostile[name]:>18,}")
        return lines

    def summary(self) -> str:
        refused, speed = self.refused.total() + self.hostile.total(), self.sent / self.seconds
        return (
            f"{self.sent:,} transactions ({refused:,} refused, as the model said) in"
            f" {self.notes['examples']:,} examples, {speed:,.0f} a second"
        )

    def data(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "refused": self.refused,
            "hostile": self.hostile,
            "notes": self.notes,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, data: dict[str, Any]) -> Tally:
        ok, refused, hostile, notes = (
            Counter(data[name]) for name in ("ok", "refused", "hostile", "notes")
        )
        return cls(ok, refused, hostile, notes, data["seconds"])


class Choices:
    """The random choices of a step."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def between(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def log(self, low: int, high: int) -> int:
        """Between the two, each order of magnitude as likely as another."""
        bits = self._random.randint(max(low, 1).bit_length(), high.bit_length())
        return min(high, max(low, self._random.getrandbits(bits)))


# A step: the action's name and the seed of its choices.
Step = tuple[str, int]


class Run:
    """One example: a fresh machine and the steps that it took."""

    def __init__(self, make: Callable[[], Any], tally: Tally) -> None:
        self.machine = make()
        self.tally = tally
        self.machine.tally = tally
        self.taken: list[Step] = []
        self.actions = actions_of(type(self.machine))
        self._by_name = {a.name: a for a in self.actions}

    def choose(self, source: random.Random) -> Step:
        machine = self.machine
        able = [a for a in self.actions if a.when(machine)]
        chosen = source.choices(able, [a.weight for a in able])[0]
        return chosen.name, source.getrandbits(48)

    def take(self, step: Step) -> None:
        name, seed = step
        found = self._by_name[name]
        if not found.when(self.machine):
            return
        self.taken.append(step)
        self.machine.choices = Choices(seed)
        self.machine.note(f"-- {name}")
        found.do(self.machine)
        self.machine.check()
        if len(self.taken) % AUDIT_EVERY == 0:
            self.machine.audit()

    def close(self) -> None:
        self.machine.choices = Choices(0)
        self.machine.leave()


def run(
    make: Callable[[], Any], seed: int, steps: int, tally: Tally, *, small: bool = True
) -> None:
    """One example; a failure is made small, unless nobody will read it, and shown with its seed."""
    source = random.Random(seed)
    began = time.monotonic()
    example = Run(make, tally)
    try:
        try:
            for _ in range(steps):
                example.take(example.choose(source))
            example.close()
        finally:
            example.machine.end()
    except Exception as error:
        if not small:
            raise
        few, why = shrink(make, example.taken, error)
        lines = "\n".join(few)
        raise AssertionError(f"seed {seed}, {steps} steps: {why}\n{lines}") from error
    finally:
        tally.notes["examples"] += 1
        tally.seconds += time.monotonic() - began


def replay(make: Callable[[], Any], steps: Sequence[Step]) -> tuple[str, list[str]] | None:
    """Why these steps fail, and their notes; None if they do not."""
    example = Run(make, Tally())
    example.machine.notes = []
    try:
        for step in steps:
            example.take(step)
        example.close()
    except Exception as error:
        return told(error), example.machine.notes
    finally:
        example.machine.end()
    return None


def told(error: BaseException) -> str:
    """An error in words that do not depend on amounts."""
    text = f"{type(error).__name__}: {error}"
    return text.split("\n", 1)[0]


def gist(text: str) -> str:
    """A message without its numbers."""
    return "".join(letter for letter in text.split("|", 1)[0] if not letter.isdigit())


def shrink(
    make: Callable[[], Any], steps: Sequence[Step], error: Exception
) -> tuple[list[str], str]:
    """The notes of as few of the steps as still fail alike."""
    until = time.monotonic() + SHRINK_SECONDS
    kept = list(steps)
    found = replay(make, kept)
    if found is None:
        return ["(it does not fail again)"], told(error)
    size = max(1, len(kept) // 2)
    while size and time.monotonic() < until:
        at, smaller = 0, False
        while at < len(kept) and time.monotonic() < until:
            fewer = kept[:at] + kept[at + size :]
            again = replay(make, fewer)
            if again and gist(again[0]) == gist(found[0]):
                kept, found, smaller = fewer, again, True
            else:
                at += size
        if not smaller or size > 1:
            size //= 2
    return found[1], found[0]
