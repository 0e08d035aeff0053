# SPDX-License-Identifier: Apache-2.0
"""When what is hit in a siege of leases: the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    """What is hit. Who is killed is started again at the end of the blow."""

    AGENT = "the agent is killed"
    ENGINE = "dockerd is killed"
    BOTH = "dockerd and the agent are killed"
    NODE = "one of two nodes is killed"
    NODES = "both nodes are killed"
    HANG = "one of two nodes hangs"
    SILENCE = "both nodes hang"
    PROGRAM = "a container's program is killed each time it starts"
    RAY = "Ray on one of two machines is killed"


ONE_MACHINE = tuple(one for one in Target if one is not Target.RAY)


@dataclass(frozen=True)
class Blow:
    """Seconds from the begin of the siege, and for how long the target is gone."""

    at: float
    target: Target
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """How long targets are gone, in seconds, least and most, and the rest between two blows."""

    gone: tuple[float, float]
    silence: tuple[float, float]
    """Both nodes hang for so long."""
    fleet: tuple[float, float]
    """A machine of a fleet is without Ray for so long; Ray itself notices it after seconds."""
    rest: tuple[float, float]

    def of(self, target: Target) -> tuple[float, float]:
        """How long a target is gone, least and most."""
        if target is Target.SILENCE:
            return self.silence
        return self.fleet if target is Target.RAY else self.gone


def blows(
    seed: int, rounds: int, bounds: Bounds, targets: Sequence[Target] = ONE_MACHINE
) -> Iterator[Blow]:
    """Each target once per round, in an order of its own, one after the other."""
    chance, at = random.Random(seed), 0.0
    for _ in range(rounds):
        for target in chance.sample(targets, len(targets)):
            at += chance.uniform(*bounds.rest)
            seconds = chance.uniform(*bounds.of(target))
            yield Blow(at, target, seconds)
            at += seconds
