# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found: tables and bars for a terminal, JSON for machines, a picture as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from xml.sax.saxutils import escape

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from provider_agent.devices import Device
from provider_agent.prover.bench.rates import Information, Row, Tried
from teraproof.amounts import show_rate

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
_NONE = "not available"
_BAR = 36
_RAW, _PROVEN = "#b8c4d6", "#2f6f4f"
_PARTS = (("product", "#2f6f4f"), ("generation", "#c98b2b"), ("hashing", "#8a4f7d"))
_FONT = "font-family='sans-serif' font-size='13'"


@dataclass(frozen=True)
class Report:
    """All of one run. `rows` is the table by size; the last is the one that took the whole time."""

    engine: str
    inventory: Sequence[Device]
    rows: Sequence[Row]
    information: Information
    tried: Sequence[Tried] = ()
    """The ways to multiply that each device has, whether they are used or not."""
    busy: Sequence[str] = ()
    """What else the machine did meanwhile, as far as it matters."""

    @property
    def main(self) -> Row:
        """The size that the whole time was spent on."""
        return self.rows[-1]

    @property
    def best_raw(self) -> float:
        """The highest raw rate of any size: what the efficiency is held against."""
        return max(row.raw for row in self.rows)

    @property
    def efficiency(self) -> float:
        """Proven rate of the main size over the highest raw rate of the run."""
        return self.main.proven / self.best_raw


def tops(value: float | None) -> str:
    """Integer operations per second as every other command shows them: INT8 TOPS."""
    return _NONE if value is None else show_rate(round(value))


def rate(value: float | None, unit: str) -> str:
    """A rate of another kind with three digits: `1.23 TB/s`, `1.23 TFLOP/s`."""
    if value is None:
        return _NONE
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def show(report: Report, console: Console) -> None:
    """Print the whole of it."""
    console.print(_inventory(report.inventory))
    if report.tried:
        console.print(_products(report.tried))
    console.print(_sizes(report.rows))
    for line in bars(report.rows):
        console.print(line)
    console.print()
    console.print(_summary(report))


def _inventory(devices: Iterable[Device]) -> Table:
    table = Table(title="Devices")
    for name in ("device", "name", "memory", "driver", "cores"):
        table.add_column(name)
    for device in devices:
        table.add_row(
            f"{device.kind}:{device.index}",
            device.name,
            f"{device.memory_bytes / 2**30:.1f} GiB",
            device.driver or "-",
            str(device.cores or "-"),
        )
    return table


def _products(tried: Iterable[Tried]) -> Table:
    table = Table(title="Products, each tried against known results", box=SIMPLE_HEAD)
    table.add_column("device")
    table.add_column("product", no_wrap=True)
    table.add_column("rate")
    for one in tried:
        found = one.trial.refused or f"{tops(one.trial.rate)}{', used' if one.used else ''}"
        table.add_row(one.device, one.trial.name, found)
    return table


def _sizes(rows: Sequence[Row]) -> Table:
    table = Table(
        title="Rates in INT8 TOPS, parts in ms per round, energy in J for 10^12 operations",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    columns = ("N x K", "rounds", "raw", "proven", "of raw", "product", "entries", "hashes", "J")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        parts = (row.parts.product, row.parts.generation, row.parts.hashing)
        table.add_row(
            _size(row),
            str(row.rounds),
            *(tops(speed).removesuffix(" TOPS") for speed in (row.raw, row.proven)),
            f"{row.efficiency:.1%}",
            *(f"{1000 * seconds:.3g}" for seconds in parts),
            "-" if row.joules_per_tera is None else f"{row.joules_per_tera:.3g}",
        )
    return table


def _size(row: Row) -> str:
    return f"{row.shape.n} x {row.shape.depth}"


def bars(rows: Sequence[Row], width: int = _BAR) -> list[str]:
    """Two bars a size, raw above proven, all to one scale."""
    most = max(max(row.raw, row.proven) for row in rows)
    lines = []
    for row in rows:
        label = _size(row)
        for name, value, mark in (("raw", row.raw, "░"), ("proven", row.proven, "█")):
            bar = mark * max(1, round(width * value / most))
            lines.append(f"{label:>14} {name:<7}{bar:<{width}} {tops(value)}")
            label = ""
    return lines


def _summary(report: Report) -> Table:
    main, other = report.main, report.information
    table = Table(show_header=False, box=None)
    energy = main.joules_per_tera
    lines = (
        ("engine", report.engine),
        ("raw products", tops(report.best_raw)),
        ("proven", f"{tops(main.proven)} over {main.seconds:.1f} s, {main.rounds} rounds"),
        ("lowest fifth", tops(main.steady)),
        ("efficiency", f"{report.efficiency:.1%} of the highest raw rate of this run"),
        ("energy", _NONE if energy is None else f"{energy:.3g} J for 10^12 proven operations"),
        ("memory", f"{rate(other.bandwidth, 'B/s')} (copy, read and written)"),
        (
            "fp16, bf16, fp8",
            ", ".join(rate(v, "FLOP/s") for v in (other.fp16, other.bf16, other.fp8)),
        ),
        ("parts", "timed alone" if main.alone else "as they ran, at the same time"),
        ("busy", "; ".join(report.busy) or "nothing else that would matter was seen"),
        ("checked", "an opening of every proof passed the check of the contract"),
    )
    for name, line in lines:
        table.add_row(name, line)
    return table


def machine_readable(report: Report) -> dict[str, object]:
    """The report for JSON: rates in operations or bytes per second, times in s, energy in J."""
    return {
        "format": "TERAPROOF-POG-2",
        "engine": report.engine,
        "devices": [{**asdict(one), "caps": list(one.caps)} for one in report.inventory],
        "raw": report.best_raw,
        "proven": report.main.proven,
        "efficiency": report.efficiency,
        "joules_per_tera_operation": report.main.joules_per_tera,
        "products": [
            {"device": one.device, "used": one.used, **asdict(one.trial)} for one in report.tried
        ],
        "busy": list(report.busy),
        "sizes": [_row(row) for row in report.rows],
        "information": asdict(report.information),
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "size": row.shape.n,
        "blocks": row.shape.blocks,
        "depth": row.shape.depth,
        "rounds": row.rounds,
        "seconds": row.seconds,
        "raw": row.raw,
        "proven": row.proven,
        "lowest_fifth": row.steady,
        "efficiency": row.efficiency,
        "round": asdict(row.parts),
        "timed_alone": row.alone,
        "raw_drift": row.drift,
        "joules": row.joules,
        "joules_per_tera_operation": row.joules_per_tera,
        "checked": row.checked,
    }


def svg(report: Report) -> str:
    """A picture: raw and proven rate of every size, and where a round's time goes."""
    left, scale, height = 150, 420, 74
    top = 56
    most = max(max(row.raw, row.proven) for row in report.rows)
    shapes = [f"<text x='16' y='28' {_FONT} font-weight='bold'>{escape(report.engine)}</text>"]
    for number, row in enumerate(report.rows):
        y = top + number * height
        shapes.append(f"<text x='16' y='{y + 26}' {_FONT}>{_size(row)}</text>")
        for place, (value, colour) in enumerate(((row.raw, _RAW), (row.proven, _PROVEN))):
            width = scale * value / most
            name = ("raw", "proven")[place]
            note = f", {row.efficiency:.1%}" if place else ""
            shapes += [
                _box(left, y + 20 * place, width, 16, colour),
                f"<text x='{left + width + 8:.1f}' y='{y + 13 + 20 * place}' {_FONT}>"
                f"{name} {tops(value)}{note}</text>",
            ]
        total = row.parts.product + row.parts.generation + row.parts.hashing
        x = float(left)
        for name, colour in _PARTS:
            width = scale * getattr(row.parts, name) / total if total else 0.0
            shapes.append(_box(x, y + 42, width, 8, colour))
            x += width
    end = top + len(report.rows) * height
    x = left
    for name, colour in _PARTS:
        shapes += [
            _box(x, end, 12, 12, colour),
            f"<text x='{x + 18}' y='{end + 11}' {_FONT}>{name}</text>",
        ]
        x += 110
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='820' height='{end + 32}'>"
        "<rect width='100%' height='100%' fill='white'/>" + "".join(shapes) + "</svg>\n"
    )


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height}' fill='{colour}'/>"
