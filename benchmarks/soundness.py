# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/soundness.md, from their formulas: `make soundness` writes them.

Amounts are in units of w, what an honest provider gets for an epoch. A provider does a part d of
what it can do in the window and claims m times what it can do, so the part f = 1 - d/m of its
claim is false. Where the formulas come from is told in the page itself.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import yaml

from benchmarks.soundness_plot import figure
from scripts.market.amounts import TPF_DECIMALS, basis_points, seconds, units

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "soundness.md"
PLANS = ROOT / "deployments" / "params"
FIGURE = ROOT / "docs" / "figures" / "soundness.svg"

COMPARED_BITS = 16
# A part of the page between two such lines is written by this program.
_TABLE = re.compile(r"(?<=<!-- table: )([a-z-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def passes(false_part: float, samples: int) -> float:
    """The probability that no sample shows a false entry; a false one fits by chance at 2^-16."""
    return float((1 - false_part * (1 - 2**-COMPARED_BITS)) ** samples)


def change(
    work: float, claim: float, samples: int, cost: float, bond: float, bits: float = 0
) -> float:
    """What cheating adds to an honest epoch's expected profit, in units of w.

    Args:
        work: d, the part of the window's work that is done, 0 to 1.
        claim: m, what is claimed, in multiples of an honest claim; at least `work`.
        samples: S.
        cost: c, energy of a full window, in units of w.
        bond: B in units of w.
        bits: g, how many bits of the draw the provider can choose, after its commitment.
    """
    passed = passes(1 - work / claim, samples)
    # Of 2^g draws it takes one that passes, if there is one.
    if bits > 0 and passed < 1:
        passed = -math.expm1(2**bits * math.log1p(-passed))
    cheating = passed * claim - work * cost - (1 - passed) * bond
    return cheating - (1 - cost)


def failures(claim: float, samples: int) -> float:
    """Expected failed proofs, a bond each, before a claim of m times the truth passes once."""
    return 1 / passes(1 - 1 / claim, samples) - 1


def worth_of_bits(bits: float, samples: int, bond: float) -> tuple[float, float]:
    """The best claim m for who can choose g bits of the draw, and what it adds, in units of w."""
    best = (1.0, 0.0)
    top = 2 ** (bits / samples) * 1.5
    steps = 20_000
    for step in range(1, steps + 1):
        claim = top ** (step / steps)
        gain = change(1, claim, samples, 0, bond, bits)
        if gain > best[1]:
            best = (claim, gain)
    return best


def guess_rate(depth: int) -> tuple[float, float]:
    """Who knows the sums of all rows and columns: how well can it guess 16 bits of an entry?

    Returns the standard deviation of what stays unknown of an entry, in multiples of 2^16, and the
    probability of the best guess in multiples of 2^-16 (the peak of a wrapped normal distribution).
    """
    variance = (128**2 - 1) / 12
    deviation = math.sqrt(depth) * variance / 2**COMPARED_BITS
    peak = 1 + 2 * sum(math.exp(-2 * (math.pi * k * deviation) ** 2) for k in range(1, 50))
    return deviation, peak


# ------------------------------------------------------------------------------------- tables


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---:|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _percent(value: float) -> str:
    if 0 < value < 1e-4:
        return f"2^{math.log2(value):.0f}"
    return f"{100 * value:.3g} %"


def _signed(value: float) -> str:
    return "0" if abs(value) < 5e-6 else f"{value:+.3f}" if abs(value) >= 1e-3 else f"{value:+.5f}"


def _count(value: float) -> str:
    return f"{value:,.1f}" if value < 1e6 else f"{value:.1e}"


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
    return _table(head, rows)


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
    return _table(head, rows)


def false_scores() -> str:
    """Bonds lost on average before a false score stands."""
    rows = [
        [f"{claim:g} x"] + [_count(failures(claim, samples)) for samples in (4, 8, 16, 32)]
        for claim in (1.05, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
    ]
    return _table(["false score", "S = 4", "S = 8", "S = 16", "S = 32"], rows)


def grinding() -> str:
    """What g bits of choice allow to claim, when a failed try costs nothing."""
    rows = [
        [str(bits)] + [f"{2 ** (bits / samples):.2f} x" for samples in (4, 8, 16, 32)]
        for bits in (1, 2, 4, 8, 16, 28, 36)
    ]
    return _table(["g, bits", "S = 4", "S = 8", "S = 16", "S = 32"], rows)


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
    return _table(head + ["S = 16, no bond", "S = 16, B = w", "S = 16, B = 10 w"], rows)


def guesses() -> str:
    """How much the cheap knowledge of all row and column sums says about an entry."""
    rows = []
    for blocks in (1, 8, 34, 136, 277):
        deviation, peak = guess_rate(480 * blocks)
        rows.append([f"{480 * blocks:,}", f"{deviation:.2f}", f"{peak:.6f}"])
    return _table(["K", "spread / 2^16", "best guess / 2^-16"], rows)


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
    return _table(head + ["claims 1.1 x", "claims 2 x"], rows)


def confidence() -> str:
    """The largest false part that passes in one of twenty tries."""
    rows = []
    for samples in (4, 8, 16, 32, 64, 8 * 30):
        note = f"{samples}" + (" (30 epochs of 8)" if samples == 240 else "")
        rows.append([note, f"{100 * (1 - 0.05 ** (1 / samples)):.1f} %"])
    return _table(["samples", "false part f that passes 5 % of the time"], rows)


def delays() -> str:
    """How often all slots from the last commit to what fixes the draw belong to one party."""
    rows = []
    for slots in (0, 1, 3, 8, 16, 32):
        row = [f"{12 * slots} s", str(slots + 1)]
        for share in (0.01, 0.1, 0.3):
            row.append(f"{share ** (slots + 1):.0e}")
        rows.append(row)
    head = ["DRAW_DELAY", "slots in a row", "1 % of the proposers", "10 %", "30 %"]
    return _table(head, rows)


def shipped() -> str:
    """What the plans under deployments/params deploy."""
    rows = []
    for path in sorted(PLANS.glob("*.yaml")):
        contracts = yaml.safe_load(path.read_text())["contracts"]
        if "Benchmark" not in contracts or "Emissions" not in contracts:
            continue
        proof, pay = contracts["Benchmark"], contracts["Emissions"]
        bond, emission = (
            units(str(value).removesuffix("TPF"), TPF_DECIMALS) // 10**TPF_DECIMALS
            for value in (proof["bond"], pay["initial_emission"])
        )
        paid = emission * basis_points(str(pay["capacity_bps"])) // 10_000
        samples = int(proof["samples"])
        rows.append(
            [path.stem, ("prevrandao", "previous hash", "ArbSys")[proof["randomness_source"]]]
            + [str(samples), f"{int(proof['n']):,}", f"{480 * int(proof['blocks']):,}"]
            + [f"{seconds(str(proof[key])):,} s" for key in ("epoch", "window", "draw_delay")]
            + [f"{bond:,} TPF", f"{paid:,} TPF", f"{100 * bond / paid:.2g} %"]
            + [_percent(passes(0.1, samples)), _percent(passes(0.5, samples))]
        )
    head = ["plan", "randomness", "S", "N", "K", "epoch", "window", "draw delay", "bond B"]
    head += ["E, first epochs", "w = B at a share of", "f = 10 % passes", "f = 50 % passes"]
    return _table(head, rows)


TABLES: dict[str, Callable[[], str]] = {
    "saves-work": saves_work,
    "inflates": inflates,
    "false-scores": false_scores,
    "grinding": grinding,
    "bias": bias,
    "guesses": guesses,
    "delegators": delegators,
    "confidence": confidence,
    "delays": delays,
    "shipped": shipped,
}


# --------------------------------------------------------------------------------------- page


def written(page: str) -> str:
    """The page with its tables computed anew. ValueError names a table that nobody computes."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"docs/soundness.md asks for a table {name!r}; there is none")
        return f"{name}{match[2]}\n{TABLES[name]()}\n"

    return _TABLE.sub(fill, page)


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
