# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/soundness.md, from their formulas: `make soundness` writes them.

Amounts are in units of w, what an honest provider gets for an epoch. What is computed stands in
`cheating` (formulas), `absence` (who is there when) and `picker` (who chooses the draw); here it
becomes tables. The page itself says where the formulas come from.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks import absence, acceptance_model, pages, picker
from benchmarks.cheating import (
    Field,
    best_gain,
    change,
    failures,
    guess_rate,
    passes,
    shape_costs,
    worth_of_bits,
)
from benchmarks.soundness_plot import figure
from teraproof.amounts import TPF_DECIMALS, basis_points, seconds, show_seconds, units

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "soundness.md"
PLANS = ROOT / "deployments" / "params"
FIGURE = ROOT / "docs" / "figures" / "soundness.svg"


# ------------------------------------------------------------------------------- plans


def plan_of(name: str) -> dict[str, Any]:
    """A shipped plan: the arguments of Benchmark and Emissions as numbers, and its block time."""
    document = yaml.safe_load((PLANS / f"{name}.yaml").read_text())
    found: dict[str, Any] = {"block_seconds": document["block_seconds"]}
    for contract in ("Benchmark", "Emissions"):
        for key, value in document["contracts"][contract].items():
            text = str(value)
            if text.endswith("TPF"):
                found[key] = units(text.removesuffix("TPF"), TPF_DECIMALS) / 10**TPF_DECIMALS
            elif text.endswith("%"):
                found[key] = basis_points(text)
            elif not text.startswith("$"):
                found[key] = seconds(text)
    return found


def rules_of(plan: dict[str, Any]) -> absence.Rules:
    """When windows come."""
    return absence.Rules(
        slot=plan["slot"],
        chance_ppm=plan["chance_ppm"],
        spacing=plan["spacing"],
        window=plan["window"],
    )


# ------------------------------------------------------------------------------ tables


def _percent(value: float) -> str:
    if 0 < value < 1e-4:
        return f"2^{math.log2(value):.0f}"
    return f"{100 * value:.3g} %"


def _signed(value: float) -> str:
    return "0" if abs(value) < 5e-6 else f"{value:+.3f}" if abs(value) >= 1e-3 else f"{value:+.5f}"


def _count(value: float) -> str:
    return f"{value:,.1f}" if value < 1e6 else f"{value:.1e}"


def _tenths(value: float) -> str:
    return f"{100 * value:.1f} %"


def saves_work() -> str:
    """Does 1 - f of the work and claims all of it; energy is half of the reward."""
    head = ["f", "passes, S = 8", "passes, S = 16", "saves"]
    head += ["S = 2, no bond", "S = 8, no bond", "S = 8, B = w", "S = 16, B = w"]
    rows = []
    for f in (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0):
        outcomes = ((2, 0.0), (8, 0.0), (8, 1.0), (16, 1.0))
        rows.append(
            [f"{100 * f:g} %", _percent(passes(f, 8)), _percent(passes(f, 16)), f"{f / 2:.3f}"]
            + [_signed(change(1 - f, 1, samples, 0.5, bond)) for samples, bond in outcomes]
        )
    return pages.table(head, rows)


def inflates() -> str:
    """Does all it can and claims m times that."""
    head = ["claims", "f", "passes, S = 8", "passes, S = 16"]
    head += ["S = 2, no bond", "S = 8, no bond", "S = 8, B = w", "S = 16, B = w"]
    rows = []
    for claim in (1.01, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0):
        f = 1 - 1 / claim
        outcomes = ((2, 0.0), (8, 0.0), (8, 1.0), (16, 1.0))
        rows.append(
            [f"{claim:g} x", f"{100 * f:.1f} %", _percent(passes(f, 8)), _percent(passes(f, 16))]
            + [_signed(change(1, claim, samples, 0, bond)) for samples, bond in outcomes]
        )
    return pages.table(head, rows)


def false_scores() -> str:
    """Bonds lost on average before a false score stands."""
    rows = [
        [f"{claim:g} x"] + [_count(failures(claim, samples)) for samples in (4, 8, 16, 32)]
        for claim in (1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
    ]
    return pages.table(["false score", "S = 4", "S = 8", "S = 16", "S = 32"], rows)


def grinding() -> str:
    """What g bits of choice allow to claim, when a failed try costs nothing."""
    rows = [
        [str(bits)] + [f"{2 ** (bits / samples):.2f} x" for samples in (4, 8, 16, 32)]
        for bits in (1, 2, 4, 8, 16, 28, 36)
    ]
    return pages.table(["g, bits", "S = 4", "S = 8", "S = 16", "S = 32"], rows)


def bias() -> str:
    """What g bits of the draw add at most, once the commitment stands and the bond is at stake."""
    rows = []
    for bits in (1, 2, 4, 8):
        row = [str(bits)]
        for samples, bond in ((8, 0.0), (8, 1.0), (8, 10.0), (16, 0.0), (16, 1.0), (16, 10.0)):
            claim, gain = worth_of_bits(bits, samples, bond)
            row.append(f"{100 * gain:.2f} % ({claim:.3f} x)")
        rows.append(row)
    head = ["g, bits", "S = 8, no bond", "S = 8, B = w", "S = 8, B = 10 w"]
    return pages.table(head + ["S = 16, no bond", "S = 16, B = w", "S = 16, B = 10 w"], rows)


def guesses() -> str:
    """How much the cheap knowledge of all row and column sums says about an entry."""
    rows = []
    for blocks in (1, 8, 34, 136, 277):
        deviation, peak = guess_rate(480 * blocks)
        rows.append([f"{480 * blocks:,}", f"{deviation:.2f}", f"{peak:.6f}"])
    return pages.table(["K", "spread / 2^8", "best guess / 2^-8"], rows)


def delegators() -> str:
    """What a failed proof costs the operator itself, by its part of the pool."""
    rows = []
    for own in (1.0, 0.5, 0.1, 0.01):
        for commission in (0.1, 0.5):
            part = commission + (1 - commission) * own
            row = [f"{100 * own:g} %", f"{100 * commission:g} %", f"{part:.3f} w", f"{own:g} B"]
            for claim in (1.1, 2.0):
                gain = part * change(1, claim, 8, 0, own / part)
                row.append(_signed(gain))
            rows.append(row)
    head = ["own part of the pool", "commission", "its part of the reward", "its part of the bond"]
    return pages.table(head + ["claims 1.1 x", "claims 2 x"], rows)


def confidence() -> str:
    """The largest false part that passes in one of twenty tries."""
    rows = []
    for samples in (4, 8, 16, 32, 64, 8 * 30):
        note = f"{samples}" + (" (30 epochs of 8)" if samples == 240 else "")
        rows.append([note, f"{100 * (1 - 0.05 ** (1 / samples)):.1f} %"])
    return pages.table(["samples", "false part f that passes 5 % of the time"], rows)


def strategies() -> str:
    """The best of all strategies with a false part, against the best honest one."""
    rows = []
    for share in (0.001, 0.1, 0.5, 0.99, None):
        for backed in (1.0, 1e9):
            field = Field(share, backed)
            rows.append(
                [
                    "below the target" if share is None else f"{100 * share:g} %",
                    "its work" if backed == 1 else "any claim",
                ]
                + [f"{best_gain(count, 8, field):+.3f}" for count in (1, 2, 3, 4)]
            )
    head = ["part of all scores", "its stake backs", "1 identity", "2", "3", "4"]
    return pages.table(head, rows)


def draws() -> str:
    """Fifty rounds done and sixty claimed, on 200 epochs of the Arbitrum plan, by real hashes."""
    plan = plan_of("arbitrum-sepolia")
    block, samples, epochs = plan["block_seconds"], plan["samples"], 200
    once = passes(1 - picker.TRUE_ROUNDS / picker.CLAIMED, samples)
    period = round(plan["draw_period"] / block)
    ways = [
        ("the caller's block, v1", 6, picker.callers_block(6), 6),
        ("the caller's block, v1", 240, picker.callers_block(240), 240),
        ("a block named before", 1, picker.named_block(1, plan["draw_delay"]), 1),
        ("a block named before", period, picker.named_block(period, plan["draw_delay"]), 1),
    ]
    rows = []
    for name, choices, way, free in ways:
        chance = 1 - (1 - once) ** free
        spread = 2 * math.sqrt(epochs * chance * (1 - chance))
        passed = picker.simulate(
            way,
            epochs,
            samples,
            round(plan["window"] / block),
            plan["chance_ppm"],
            round(plan["slot"] / block),
        )
        expected = f"{epochs * chance:.1f} (+- {spread:.1f})"
        rows.append([name, f"{choices:,}", _tenths(chance), expected, str(passed)])
    head = ["the draw is that of", "blocks to call in", "passes, formula", "of 200, expected"]
    return pages.table([*head, "of 200, simulated"], rows)


@cache
def _seen() -> absence.History:
    """Sixteen years of the plan for Sepolia."""
    return absence.History(rules_of(plan_of("sepolia")), 16 * 365, b"teraproof")


_ACCRUALS = (7_200, 86_400, 3 * 86_400)


def presence() -> str:
    """Plans for being there a part of the time."""
    half = b"a coin"
    plans = [
        ("always", absence.at_hours(0, 24)),
        ("8:00 to 20:00", absence.at_hours(8, 20)),
        ("22:00 to 6:00", lambda seen: ~absence.at_hours(6, 22)(seen)),
        ("a coin an hour, 50 %", absence.by_coin(0.5, half)),
        ("a coin an hour, 10 %", absence.by_coin(0.1, half)),
        ("every second boundary", absence.each(2)),
        ("the first 11 h after a window", absence.since_last(0, 11)),
        ("from 13 h after a window on", absence.since_last(13)),
        ("from 24 h after a window on", absence.since_last(24)),
        ("after 100 lost boundaries", absence.after_lost(100)),
        ("after 500 lost boundaries", absence.after_lost(500)),
        ("after a gap of more than a day", absence.after_gaps(24, 1e9)),
    ]
    rows = []
    for name, plan in plans:
        got = absence.measure(_seen(), plan, _ACCRUALS)
        parts = (got.present, got.scored, got.present + got.dead, *got.rewards)
        rows.append([name, *(_tenths(part) for part in parts)])
    head = ["present", "of the time, q", "epochs scored", "q + dead time"]
    head += ["rewards, 2 h an epoch", "up to a day an epoch", "up to 3 days"]
    return pages.table(head, rows)


def searched() -> str:
    """The best of 300 plans by chance, on years that the search has not seen."""
    rows = []
    for name, trained, tested in absence.search(_seen(), 300, seed=1, most=0.6):
        allowed = tested.present + tested.dead
        rows.append(
            [name, f"{_tenths(trained.present)} / {_tenths(trained.scored)}"]
            + [f"{_tenths(tested.present)} / {_tenths(tested.scored)}", _tenths(allowed)]
        )
    head = ["plan", "searched on: present / scored", "tested on: present / scored"]
    return pages.table([*head, "tested: q + dead time"], rows)


def delays() -> str:
    """How often all slots between the last commit and the draw belong to one party."""
    rows = []
    for slots in (2, 4, 8, 16, 32):
        row = [str(slots), f"{12 * slots} s"]
        for share in (0.01, 0.1, 0.3):
            row.append(f"{share**slots:.0e}")
        rows.append(row)
    head = ["DRAW_DELAY, slots in a row", "on Ethereum", "1 % of the proposers", "10 %", "30 %"]
    return pages.table(head, rows)


def shapes() -> str:
    """What a shape costs the prover and the chain; calculated for an H100."""
    rows = []
    for n, blocks, leaf in (
        (16_384, 136, 2),
        (16_384, 68, 1),
        (16_384, 136, 1),
        (32_768, 68, 1),
        (32_768, 136, 1),
        (65_536, 68, 1),
    ):
        costs = shape_costs(n, 480 * blocks, leaf)
        rows.append(
            ["v1" if leaf == 2 else "v2", f"{n:,}", f"{480 * blocks:,}"]
            + [f"{costs.product:.1f} ms", f"{100 * costs.hashing / costs.product:.1f} %"]
            + [f"{100 * costs.making / costs.product:.1f} %", f"{100 * costs.useful:.1f} %"]
            + [f"{costs.gas / 1e3:,.0f} k", f"{costs.memory / 1e9:.1f} GB"]
        )
    head = ["format", "N", "K", "a round's product", "hashing", "generating", "useful part"]
    return pages.table([*head, "gas of an opening", "memory"], rows)


def windows() -> str:
    """When the windows of the shipped plans come, and how long they are."""
    rows = []
    for path in sorted(PLANS.glob("*.yaml")):
        plan = plan_of(path.stem)
        rules, block = rules_of(plan), plan["block_seconds"]
        rows.append(
            [path.stem, f"{block:g} s", f"{plan['slot']} s", f"{plan['chance_ppm'] / 1e4:g} %"]
            + [
                show_seconds(60 * round(rules.mean / 60) or round(rules.mean)),
                f"{plan['spacing']:,} s",
                _tenths(rules.dead),
            ]
            + [f"{plan['window']:,} s", _percent(block / plan["window"])]
            + [f"{plan['open_period']} s", f"{plan['draw_delay']}"]
            + [f"{plan['draw_delay'] * block:g} s"]
        )
    head = ["plan", "a block", "slot", "chance", "a window each", "spacing", "dead time"]
    head += ["window", "a block of it", "to present it", "draw delay, blocks", "in time"]
    return pages.table(head, rows)


def shipped() -> str:
    """What the proofs of the shipped plans ask for, and what they pay."""
    rows = []
    for path in sorted(PLANS.glob("*.yaml")):
        plan = plan_of(path.stem)
        paid = plan["rate"] * plan["max_accrual"] * plan["capacity_bps"] / 10_000
        samples, bond = plan["samples"], plan["bond"]
        source = ("prevrandao", "block hash", "ArbSys")[plan["randomness_source"]]
        rows.append(
            [path.stem, source, f"{plan['n']:,}", f"{480 * plan['blocks']:,}", str(samples)]
            + [_percent(passes(0.1, samples)), _percent(passes(0.5, samples))]
            + [f"{bond:,.0f} TPF", f"{paid:,.0f} TPF", f"{100 * bond / paid:.2g} %"]
            + [f"{plan['ops_per_tpf']:.1e}", f"{plan['target']:.1e}"]
        )
    head = ["plan", "randomness", "N", "K", "S", "f = 10 % passes", "f = 50 % passes", "bond B"]
    head += ["an epoch pays", "w = B at a share of", "op/s a TPF backs", "target, op/s"]
    return pages.table(head, rows)


TABLES: dict[str, Callable[[], str]] = {
    "saves-work": saves_work,
    "inflates": inflates,
    "strategies": strategies,
    "false-scores": false_scores,
    "grinding": grinding,
    "bias": bias,
    "draws": draws,
    "presence": presence,
    "searched": searched,
    "guesses": guesses,
    "delegators": delegators,
    "confidence": confidence,
    "delays": delays,
    "shapes": shapes,
    "windows": windows,
    "shipped": shipped,
    "acceptance-false": acceptance_model.false_parts,
    "acceptance-cards": acceptance_model.cards,
    "acceptance-leases": acceptance_model.leases,
}


# --------------------------------------------------------------------------------------- page


def written(page: str) -> str:
    """The page with its tables computed again. ValueError names a table that nobody computes."""
    return pages.filled(page, TABLES, "docs/soundness.md")


def outdated() -> list[Path]:
    """Files whose content is not what the formulas give."""
    page = PAGE.read_text()
    wanted = {PAGE: written(page), FIGURE: figure(change)}
    return [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables and the figure of docs/soundness.md, or only compare them."""
    parser = argparse.ArgumentParser(prog="benchmarks.soundness", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when they differ")
    if parser.parse_args(arguments).check:
        stale = outdated()
        for path in stale:
            print(f"error: {path.relative_to(ROOT)} is out of date; run make soundness")
        return 1 if stale else 0
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(figure(change))
    PAGE.write_text(written(PAGE.read_text()))
    print(f"wrote {len(TABLES)} tables and {FIGURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
