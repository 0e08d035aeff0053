# SPDX-License-Identifier: Apache-2.0
"""How much of a window does an agent prove? A real agent and real contracts, in real time.

    python -m benchmarks.window_use [--blocks 2,12] [--window 300] [--windows 1]

The score divides the rounds of the last commit by the whole window. So what counts is how soon the
rounds begin after the block that opens the window, and how near to its end the last commit leaves
that is mined in time. The chain is anvil with the given time between two blocks; the agent is the
installed wheel as its own process, with the settings of a provider. Each share is the rounds that
were committed to and scored, of those that the machine does in a whole window at the rate that it
had in this one. Figures are also written to `.build/window_use.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from teraproof.contracts.benchmark import BenchmarkContract, Committed, EpochRecord
from teraproof.rpc.client import RpcPool
from tests.agent_e2e.chain import ProofTerms, deployment
from tests.agent_e2e.world import World
from tests.support.anvil import ROOT, Anvil

RESULT = ROOT / ".build" / "window_use.json"
_LOOK = 0.02  # seconds between two looks at the rounds on the disk
_START = 120  # seconds from one boundary to the next: time for the agent to start


class WindowError(Exception):
    """One line for a person: what went wrong and what to do."""


@dataclass(frozen=True)
class Use:
    """One window. Times are seconds after the block that has opened it."""

    block_seconds: float
    window: int
    first_round: float
    commits: list[int]
    """When each commit was mined."""
    rounds: int
    """Of the last commit."""
    scored: int
    """Of them, in the score."""
    rate: float
    """Rounds per second."""
    gas: int
    """Of all commits."""

    @property
    def possible(self) -> float:
        """Rounds in a whole window."""
        return self.rate * self.window

    @property
    def share(self) -> float:
        """Proven, of what was possible."""
        return self.scored / self.possible


class Watch:
    """Looks at the rounds on the agent's disk, all the time, in a thread of its own."""

    def __init__(self, proofs: Path) -> None:
        self._proofs = proofs
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen: dict[str, list[tuple[float, int]]] = {}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def of(self, epoch: int) -> list[tuple[float, int]]:
        """Time and rounds of the epoch's proof, whenever they have changed."""
        found = [seen for name, seen in self._seen.items() if name.startswith(f"{epoch}-")]
        return max(found, key=len, default=[])

    def _run(self) -> None:
        while not self._ended.wait(_LOOK):
            for path in self._proofs.glob("*-*/roots"):
                with contextlib.suppress(OSError):
                    rounds = path.stat().st_size // 32
                    seen = self._seen.setdefault(path.parent.name, [])
                    if rounds and (not seen or seen[-1][1] != rounds):
                        seen.append((time.time(), rounds))


def measure(directory: Path, block_seconds: int, window: int, windows: int) -> Iterator[Use]:
    """Run an agent through windows. Raises WindowError when one is not scored."""
    after = max(30, 6 * block_seconds)
    terms = ProofTerms(
        blocks=8,
        slot=_START,
        open_period=window // 10,
        window=window,
        draw_period=after,
        reach=after,
        opening_period=2 * after,
        spacing=window + 4 * after,
    )
    with deployment(Anvil(arguments=["--order", "fifo"]), proofs=terms) as contracts:
        world = World(
            directory,
            contracts,
            # As a provider would have it: nothing is tuned to this chain.
            settings={"TERAPROOF_CHAIN__CONFIRMATIONS": "2"},
            poll_seconds=2,
            block_seconds=None,
        )
        try:
            world.set_up()
            contracts.anvil.set_automine(False)
            contracts.anvil.set_block_time(block_seconds)
            # The boundary of the deployment is past: the agent is ready before the one that opens.
            genesis = contracts.benchmark.read("GENESIS")  # type: ignore[union-attr]  # there are terms
            past = genesis + terms.open_period + block_seconds
            time.sleep(max(0.0, past + 1 - time.time()))
            world.start_agent()
            with Watch(directory / "agent" / "data" / "proofs") as watch:
                for _ in range(windows):
                    yield _window(world, terms, block_seconds, watch)
        except AssertionError as error:
            raise WindowError(str(error)) from None
        finally:
            world.close()


def _window(world: World, terms: ProofTerms, block_seconds: int, watch: Watch) -> Use:
    benchmark, owner = world.benchmark, world.owner.address
    assert benchmark is not None  # there are terms
    epoch = benchmark.read("current_epoch") + 1
    world.until(lambda: benchmark.read("current_epoch") == epoch, "window", 2 * terms.spacing)
    opened_at = EpochRecord(*benchmark.read("epoch_of", epoch)).opened_at
    end = opened_at + terms.window
    time.sleep(max(0.0, end - time.time()))
    world.until(lambda: benchmark.read("share_of", owner, epoch)[0] > 0, "score", terms.spacing)
    seen = [(at - opened_at, rounds) for at, rounds in watch.of(epoch) if at < end]
    # Over the whole time: a machine that others use as well is not equally fast in all of it.
    (begin, before), (until, done) = seen[0], seen[-1]
    rate = (done - before) / (until - begin)
    score = benchmark.read("share_of", owner, epoch)[0]
    commits = _commits(world, epoch)
    return Use(
        block_seconds=block_seconds,
        window=terms.window,
        first_round=round(seen[0][0], 1),
        commits=[int(anvil_block["timestamp"], 16) - opened_at for anvil_block, _ in commits],
        rounds=benchmark.read("proof_of", owner)[1],
        scored=round(score * terms.window / (2 * terms.n**2 * 480 * terms.blocks)),
        rate=rate,
        gas=sum(gas for _, gas in commits),
    )


def _commits(world: World, epoch: int) -> list[tuple[dict[str, Any], int]]:
    """Block and gas of each commit of an epoch."""
    assert world.benchmark is not None  # there are terms
    pool = RpcPool([world.anvil.url], world.anvil.chain_id)
    contract = BenchmarkContract(pool, world.benchmark.address)
    found = []
    for entry in pool.logs([contract.address], 0, world.anvil.number()):
        event = contract.decode(entry)
        if isinstance(event, Committed) and event.epoch == epoch:
            receipt = world.anvil.receipt("0x" + entry.tx_hash.hex())
            assert receipt is not None  # it has a log
            found.append((world.anvil.block(entry.block_number), int(receipt["gasUsed"], 16)))
    pool.close()
    return found


def table(uses: Sequence[Use]) -> Table:
    """What was measured, a window a line."""
    made = Table(title="What of a window an agent proves", title_justify="left")
    for name in ("block s", "window s", "first round s", "commits mined at s", "gas"):
        made.add_column(name, justify="right")
    for name in ("rounds scored", "of possible", "share"):
        made.add_column(name, justify="right")
    for use in uses:
        made.add_row(
            f"{use.block_seconds:g}",
            str(use.window),
            f"{use.first_round:.1f}",
            ", ".join(map(str, use.commits)),
            f"{use.gas:,}",
            f"{use.scored:,}",
            f"{use.possible:,.0f}",
            f"{use.share:.1%}",
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write. 1 and one line when it does not work."""
    parser = argparse.ArgumentParser(description=__doc__, prog="window_use")
    parser.add_argument("--blocks", default="2,12", help="seconds between two blocks, a list")
    parser.add_argument("--window", type=int, default=300, help="seconds")
    parser.add_argument("--windows", type=int, default=1, help="windows for each block time")
    chosen = parser.parse_args(arguments)
    uses: list[Use] = []
    try:
        for seconds in (int(part) for part in chosen.blocks.split(",")):
            with tempfile.TemporaryDirectory(prefix="teraproof-window-") as directory:
                uses += measure(Path(directory), seconds, chosen.window, chosen.windows)
    except WindowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    Console(width=120).print(table(uses))
    RESULT.parent.mkdir(exist_ok=True)
    shown = [{**asdict(use), "share": round(use.share, 4)} for use in uses]
    RESULT.write_text(json.dumps(shown, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
