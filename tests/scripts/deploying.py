# SPDX-License-Identifier: Apache-2.0
"""A deployment that dies on the way, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scripts.deployment import verify
from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan
from teraproof.market.registry import Registry
from teraproof.market.sending import Sender

Artifacts = dict[str, Artifact]
DEPLOYER, STEPS = 0, 19


class Killed(BaseException):
    """Stands for kill -9: nothing of the process runs after it."""


class Kill:
    """Dies before or after the n-th call of what it wraps."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.calls = at, after, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            here = self.calls == self.at
            if here and not self.after:
                raise Killed
            result = function(*arguments, **named)
            if here:
                raise Killed
            return result

        return wrapped


def wrong(
    plan: Plan, registry: Registry, artifacts: Artifacts, sender: Sender
) -> list[tuple[str, str]]:
    """What does not hold, as (of what, what)."""
    checks = verify.verify(plan, registry, artifacts, sender.chain)
    return [(check.subject, check.what) for check in checks if not check.ok]
