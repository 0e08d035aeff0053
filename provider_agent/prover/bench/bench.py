# SPDX-License-Identifier: Apache-2.0
"""`provider-agent bench`: how fast this machine proves, without a chain."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from provider_agent import devices
from provider_agent.prover.bench import rates, sizes
from provider_agent.prover.bench.busy import Others, gpus_in_use, notes
from provider_agent.prover.bench.options import options
from provider_agent.prover.bench.report import Report, machine_readable, show, svg
from provider_agent.prover.cuda.engine import CudaEngine, visible
from provider_agent.prover.engine import DEVICES, Engine, make_engine
from teraproof.errors import WrongInput, of_file
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak

_CUDA_SECONDS, _CPU_SECONDS = 60.0, 10.0
# A size of the table gets a tenth of the main one's time, within these.
_LEAST_SECONDS, _MOST_SECONDS = 0.2, 6.0
_LEAST_ROUNDS = 8
# What the first guess of the rate is taken from.
_GPU_TRIAL, _TRIAL = Shape(8192, 34), Shape(256, 4)
_TRIAL_SECONDS = 0.5


@click.command()
@click.option("--device", help=f"{DEVICES}; the GPUs that there are unless told, else cpu.")
@click.option("--seconds", type=float, help="Time of the main proof: 60 on cuda, 10 on cpu.")
@click.option("--size", type=int, metavar="N", help="Main size, a power of two; with --blocks.")
@click.option("--blocks", type=int, help="1 to 277; the depth is 480 * BLOCKS.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the figures to a file, or alone to standard output with -.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture (SVG) to a file.",
)
def bench(
    device: str | None,
    seconds: float | None,
    size: int | None,
    blocks: int | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure raw and proven rates of exact products, without a chain.

    Every way that the device has to multiply is tried, and the fastest exact one taken. A proof of
    the main size runs for --seconds; its rate is held against the product alone, by the same way on
    the same device, before and after. What else the machine did meanwhile is shown. Smaller sizes
    show what a round's parts cost. Without --size the largest shape is taken that fits into the
    memory and leaves the time enough rounds.

    The clock of a proof starts before A is made and ends with the last root. One opening of every
    proof is checked as the contract would.
    """
    if (size is None) != (blocks is None):
        raise WrongInput("--size and --blocks go together; give both or neither")
    if seconds is not None and not 0 < seconds <= 86_400:
        raise WrongInput(f"--seconds must be more than 0 and at most a day, not {seconds:g}")
    with options():
        shape = Shape(size, blocks) if size is not None and blocks is not None else None
    files = [file for file in (json_file, plot_file) if file is not None and str(file) != "-"]
    for file in files:  # before an hour of work, not after it
        _check_writable(file)
    inventory = devices.inventory()
    name = device or _usual(inventory)
    before = gpus_in_use(inventory)
    try:
        with closing(make_engine(name)) as engine:
            report = _measure(engine, inventory, shape, seconds, before)
    except MemoryError:
        raise EngineError("not enough memory; choose a smaller --size or --blocks") from None

    figures = json.dumps(machine_readable(report), indent=1)
    if json_file is not None and str(json_file) == "-":
        click.echo(figures)
    else:
        show(report, Console(highlight=False, markup=False))
        if json_file is not None:
            _write(json_file, figures + "\n")
    if plot_file is not None:
        _write(plot_file, svg(report))


def _check_writable(file: Path) -> None:
    """WrongInput when a file cannot be written; it is as before then."""
    try:
        there = file.exists()
        file.open("ab").close()
        if not there:
            file.unlink()
    except OSError as error:
        raise of_file(error, file, "cannot write") from None


def _usual(inventory: Sequence[devices.Device]) -> str:
    """All GPUs that CUDA shows; without any GPU the CPU."""
    if not any(device.kind == "cuda" for device in inventory):
        return "cpu"
    # Where NVML knows a GPU and CUDA does not, opening it says why.
    return "cuda:" + ",".join(str(number) for number in range(max(1, visible())))


def _measure(
    engine: Engine,
    inventory: Sequence[devices.Device],
    shape: Shape | None,
    seconds: float | None,
    before: Sequence[str],
) -> Report:
    gpu = isinstance(engine, CudaEngine)
    if seconds is None:
        seconds = _CUDA_SECONDS if gpu else _CPU_SECONDS
    fits = _fits(engine)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def begin(what: str) -> rates.Tick:
            if not console.is_terminal:
                click.echo(what, err=True)
            task = progress.add_task(what, total=1.0)
            return lambda part: progress.update(task, completed=part)

        guess = _guess(engine, fits, begin("first guess of the rate"))
        if shape is None:
            shape, _ = sizes.choose(fits, guess, seconds)
        short = min(_MOST_SECONDS, max(_LEAST_SECONDS, seconds / 10))
        steps = [
            step
            for step in sizes.ladder(shape, fits)[:-1]
            if sizes.rounds_within(step, guess, short) >= _LEAST_ROUNDS
        ]
        others = Others()
        rows = [
            rates.row(engine, step, time, begin(f"{step.n} x {step.depth}, {time:g} s"))
            for step, time in [*((step, short) for step in steps), (shape, seconds)]
        ]
        busy = notes(before, others.share(), rows[-1].drift)
        tick = begin("other rates")
        # The other rates need the memory that the main size holds.
        engine.prepare(keccak(b"small"), Shape(256, 1))
        other = rates.information(engine)
        tick(1.0)
        return Report(engine.device, inventory, rows, other, rates.tried(engine), busy)


def _fits(engine: Engine) -> Callable[[Shape], bool]:
    if isinstance(engine, CudaEngine):
        return sizes.fits_gpus(
            [gpu.free_bytes() for gpu in engine.devices],
            [one.rate for one in engine.products],
            [one.way.kind for one in engine.products],
        )
    return sizes.fits_machine(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def _guess(engine: Engine, fits: Callable[[Shape], bool], tick: rates.Tick) -> float:
    """Operations per second: of products where they can be timed alone, else of a short proof."""
    if isinstance(engine, CudaEngine):
        engine.prepare(keccak(b"first guess"), _GPU_TRIAL if fits(_GPU_TRIAL) else _TRIAL)
        operations, seconds = engine.raw_product(_TRIAL_SECONDS)
        tick(1.0)
        return operations / seconds
    rates.prove_for(engine, keccak(b"warm up"), _TRIAL, 0.0, lambda part: None)
    return rates.prove_for(engine, keccak(b"first guess"), _TRIAL, _TRIAL_SECONDS, tick).rate


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise of_file(error, file, "cannot write") from None
