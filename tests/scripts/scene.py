# SPDX-License-Identifier: Apache-2.0
"""A market with an owner, a tenant, a stranger and a real agent that works for the owner."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from teraproof.market import (
    jobs,
    packages,
    tenant,
)
from teraproof.market.jobs import Job, Placed
from teraproof.market.market import Market, fresh_nonce
from teraproof.market.packages import Package
from teraproof.market.sending import Sender
from teraproof.market.ui import QuietUi
from teraproof.protocol.terms import ZERO_WORD, Order, Status
from tests.support.anvil import Anvil

TPF, USD = 10**18, 10**6

Found = TypeVar("Found")


@dataclass
class Scene:
    anvil: Anvil
    market: Market
    owner: Sender
    tenant: Sender
    stranger: Sender
    endpoint: str
    home: Path
    ui: QuietUi

    def package(
        self, name: str, text: str, runtime: str = "python-ml", ending: str = "", timeout: int = 30
    ) -> Package:
        """A job that writes `text` and then does what `ending` says."""
        directory = self.home / name
        directory.mkdir()
        (directory / "job.py").write_text(
            f"import pathlib, time\npathlib.Path('out').mkdir()\n"
            f"pathlib.Path('out/answer.txt').write_text({text!r})\n{ending}\n"
        )
        document = {
            "version": 1,
            "kind": "batch",
            "name": name,
            "runtime": runtime,
            "command": ["python", "job.py"],
            "env": {},
            "inputs": ["job.py"],
            "outputs": ["out"],
            "resources": {"cpus": 1, "memory_mb": 256, "disk_mb": 16, "gpus": 0},
            "timeout_seconds": timeout,
            "deterministic": True,
            "network": False,
        }
        (directory / "job.json").write_text(json.dumps(document))
        return packages.read(directory)

    def post(self, package: Package, min_score: int = 0) -> Placed:
        order = Order(
            spec=package.spec.digest(),
            start_price=1 * USD,
            max_price=1 * USD,
            collateral=10 * TPF,
            duration=300,
            auction=0,
            min_stake=0,
            min_score=min_score,
            allow_root=ZERO_WORD,
            nonce=fresh_nonce(),
        )
        assert tenant.candidates(self.market, order) == {self.owner.address: self.endpoint}
        return jobs.post(self.market, self.tenant, self.ui, order)

    def wait(self, placed: Placed, status: Status, seconds: float = 60) -> Job:
        def look() -> Job | None:
            job = jobs.find(self.market, placed.job.hex())
            return job if job.status is status else None

        return self.until(look, seconds)

    def until(self, look: Callable[[], Found | None], seconds: float) -> Found:
        """What `look` finds; fails after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            if found := look():
                return found
            assert time.monotonic() < end, (self.home / "agent.log").read_text()[-2_000:]
            time.sleep(0.3)
