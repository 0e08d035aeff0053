# SPDX-License-Identifier: Apache-2.0
"""`provider-agent bench`: a whole run on the CPU and on a CUDA engine, its outputs, its errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from provider_agent import devices
from provider_agent.cli import main as cli
from provider_agent.devices import Device
from provider_agent.prover.bench import bench, rates, report
from provider_agent.prover.bench.rates import Information, Row, Tried
from provider_agent.prover.bench.report import Report
from provider_agent.prover.cuda.device import Kind
from provider_agent.prover.cuda.engine import CudaEngine
from provider_agent.prover.engine import Timings, make_engine
from provider_agent.prover.products.choose import Chosen, Trial
from provider_agent.prover.products.cuda_ways import CudaWay
from provider_agent.prover.proof import Proof
from teraproof.amounts import show_rate
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Shape, keccak
from teraproof.protocol.errors import Exit
from tests.agent.benchmark.cuda_on_cpu import CpuDevice, engine_on

TINY = ["--size", "256", "--blocks", "1", "--seconds", "0.2"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["bench", *arguments])


def row(n: int, blocks: int, raw: float, proven: float, joules: float | None = None) -> Row:
    return Row(
        shape=Shape(n, blocks),
        rounds=70,
        seconds=60.0,
        raw=raw,
        proven=proven,
        steady=0.99 * proven,
        parts=Timings(0.8, 0.01, 0.02),
        alone=True,
        joules=joules,
        checked=True,
    )


@pytest.fixture
def big() -> Report:
    """Made-up figures of a GPU, to see how they are written."""
    gpu = Device("cuda", 0, "Some <GPU>", "GPU-0", 80 << 30, driver="580.1")
    return Report(
        "Some <GPU> (CUDA, int8 tensor cores)",
        [gpu],
        [row(16_384, 34, 1.5e15, 1.2e15), row(65_536, 277, 1.4e15, 1.3e15, 31_200.0)],
        Information(3.1e12, 7.0e14, 7.5e14),
        [
            Tried("Some <GPU>", Trial("int8 of cuBLAS", 1.4e15), True),
            Tried("Some <GPU>", Trial("bf16 of cuBLAS", 7e14), False),
            Tried("Some <GPU>", Trial("fp16 of cuBLAS", 0.0, "its sums are wrong"), False),
        ],
        ["other programs had 25% of the cores"],
    )


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_bench__json_of_a_whole_run(device: str) -> None:
    result = call("--device", device, *TINY, "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["format"] == "TERAPROOF-POG-2"
    assert len(found["devices"]) >= 1
    (only,) = found["sizes"]
    assert (only["size"], only["blocks"], only["depth"]) == (256, 1, 480)
    assert only["checked"] is True
    assert only["rounds"] >= 1
    assert only["proven"] == pytest.approx(2 * 256 * 256 * 480 * only["rounds"] / only["seconds"])
    assert found["proven"] == only["proven"]
    assert found["raw"] == only["raw"]
    assert found["efficiency"] == only["proven"] / only["raw"]
    used = [one["name"] for one in found["products"] if one["used"]]
    assert len(used) == (device == "cpu")  # the reference has nothing to choose from
    assert all(name in found["engine"] for name in used)
    assert (only["raw_drift"] is None) == (device == "numpy")
    assert all(isinstance(line, str) for line in found["busy"])
    assert found["information"]["bandwidth"] > 0
    assert found["information"]["fp8"] is None


def test_bench__on_a_cuda_engine_of_two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    # 600 MiB free: room for small shapes besides what is kept for the libraries.
    gpus = [CpuDevice(k, memory=600 << 20) for k in range(2)]
    monkeypatch.setattr(bench, "make_engine", lambda name: engine_on(*gpus))
    result = call("--device", "cuda:0,1", "--seconds", "0.3", "--json", "-")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["engine"].startswith("2 x ")
    main = found["sizes"][-1]
    assert main["timed_alone"] is True
    assert main["joules"] is None
    assert min(main["round"].values()) > 0
    assert all(gpu.closed and gpu.allocated == 0 for gpu in gpus)


def test_bench__chooses_a_size_and_writes_files(tmp_path: Path) -> None:
    plot, figures = tmp_path / "plot.svg", tmp_path / "figures.json"
    result = call("--device", "cpu", "--seconds", "1", "--plot", str(plot), "--json", str(figures))
    assert result.exit_code == 0, result.output
    assert "not available" in result.stdout
    assert "proven" in result.stdout
    found = json.loads(figures.read_text())
    sides = [size["size"] for size in found["sizes"]]
    assert sides == sorted(set(sides))
    assert ElementTree.fromstring(plot.read_text()).tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--size", "256"], "--size and --blocks go together"),
        (["--blocks", "1"], "--size and --blocks go together"),
        (["--size", "300", "--blocks", "1"], "power of two"),
        (["--size", "256", "--blocks", "278"], "blocks must be 1 to 277"),
        (["--seconds", "0"], "more than 0"),
        (["--seconds", "nan"], "more than 0"),
        (["--device", "abacus"], "'abacus' is unknown"),
        (["--json", "no/such/place.json"], "cannot write no/such/place.json"),
        (["--plot", "no/such/place.svg"], "cannot write no/such/place.svg"),
    ],
)
def test_bench__errors_are_one_line(arguments: list[str], line: str) -> None:
    result = call(*arguments)
    assert result.exit_code == Exit.INPUT
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert line in result.stderr
    assert result.stdout == ""


def test_bench__cuda_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "provider_agent.prover.cuda.cupy_device", raising=False)
    result = call("--device", "cuda", *TINY)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: CUDA needs CuPy and its libraries")
    assert "pip install '.[cuda]'" in result.stderr


def test_row__a_wrong_proof_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(CpuDevice):
        def product(self, *arguments: Any) -> None:
            """A device that multiplies nothing."""

    engine = engine_on(Wrong(memory=600 << 20))
    with pytest.raises(EngineError, match="multiplies wrongly at this size"):
        rates.row(engine, Shape(256, 1), 0.05, lambda part: None)


def test_prove_for__counts_whole_rounds_and_tells_how_far_it_is() -> None:
    engine = make_engine("cpu")
    told: list[float] = []
    run = rates.prove_for(engine, keccak(b"clock"), Shape(256, 1), 0.2, told.append)
    assert run.proof.rounds == len(told)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert run.seconds >= 0.2
    assert rates.passes(engine, run.proof)
    engine.close()


def test_run__the_lowest_fifth_shows_a_slowdown() -> None:
    proof = Proof(bytes(32), Shape(256, 1), (bytes(32),) * 20)
    even = [0.5 * k for k in range(1, 21)]
    slow = [*even[:10], *(even[9] + 2.0 * k for k in range(1, 5)), *(20.0 + k for k in range(6))]
    operations = proof.shape.operations
    assert rates.Run(proof, 10.0, Timings(), even).steady == pytest.approx(operations * 2)
    # Rounds 11 to 14 end at 9, 11, 13 and 20 s, the one before them at 7 s.
    assert rates.Run(proof, 25.0, Timings(), slow).steady == pytest.approx(operations * 4 / 13)
    assert rates.Run(proof, 10.0, Timings(), even[:19]).steady is None


@pytest.mark.parametrize(
    ("kinds", "visible", "name"),
    [
        (["cpu"], 0, "cpu"),
        (["cuda"], 1, "cuda:0"),
        (["cuda", "cuda"], 2, "cuda:0,1"),
        (["cuda", "cuda"], 1, "cuda:0"),  # CUDA_VISIBLE_DEVICES hides one
        (["cuda"], 0, "cuda:0"),  # which then says what is missing
    ],
)
def test_usual__device(
    kinds: list[str], visible: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "visible", lambda: visible)
    assert bench._usual([Device(kind, 0, "x", "x", 1) for kind in kinds]) == name


def test_tried__by_device() -> None:
    unlike = (Trial("int8 of cuBLAS", 0.0, "no"), Trial("fp16 of cuBLAS", 5.0))
    gpus = [CpuDevice(name="one"), CpuDevice(name="two", kinds=(Kind.FP16,))]
    chosen = [
        Chosen(CudaWay(gpu, gpu.kinds[0]), 1.0, trials)
        for gpu, trials in zip(gpus, ((), unlike), strict=True)
    ]
    engine = CudaEngine(devices=gpus, chosen=chosen)
    assert rates.tried(engine) == [Tried("two", unlike[0], False), Tried("two", unlike[1], True)]
    assert rates.tried(make_engine("numpy")) == []


def test_energy__of_the_gpus_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [Device("cuda", k, "g", f"GPU-{k}", 1) for k in range(3)]
    counters = {"GPU-0": 1000, "GPU-2": 5000}
    monkeypatch.setattr(devices, "gpus", lambda: known)
    monkeypatch.setattr(
        devices,
        "sample",
        lambda device: devices.Sample(energy_mj=counters.get(device.uuid)),
    )

    def engine(*uuids: str) -> CudaEngine:
        return engine_on(*(CpuDevice(uuid=uuid) for uuid in uuids))

    assert rates._energy(engine("GPU-2")) == 5000
    assert rates._energy(engine("GPU-2", "GPU-0")) == 6000
    assert rates._energy(engine("GPU-")) is None  # which of them?
    assert rates._energy(engine("GPU-1")) is None  # no counter
    assert rates._energy(engine("GPU-0", "GPU-9")) is None  # NVML does not know it
    assert rates._energy(make_engine("numpy")) is None


def test_row__energy_per_operation() -> None:
    one = row(65_536, 277, 1.4e15, 1.3e15, joules=31_200.0)
    # 1.3e15 operations per second for 60 s are 78,000 times 10^12.
    assert one.joules_per_tera == pytest.approx(0.4)
    assert row(256, 1, 1.0, 1.0).joules_per_tera is None


def test_report__efficiency_is_held_against_the_highest_raw_rate(big: Report) -> None:
    assert big.best_raw == 1.5e15
    assert big.efficiency == pytest.approx(1.3 / 1.5)
    found = report.machine_readable(big)
    assert found["efficiency"] == big.efficiency
    assert json.loads(json.dumps(found)) == found


def test_report__fits_a_terminal(big: Report) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    report.show(big, console)
    text = console.export_text()
    for part in (
        "Some <GPU>",
        "65536 x 132960",
        "86.7%",
        "fp16, bf16, fp8",
        "0.4",
        "1,400 TOPS, used",
    ):
        assert part in text, part
    assert "its sums are wrong" in text
    assert "other programs had 25% of the cores" in text
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_report__bars_are_to_scale(big: Report) -> None:
    raw, proven = report.bars(big.rows, width=30)[:2]
    assert raw.count("░") == 30
    assert proven.count("█") == 24
    assert "1,200 TOPS" in proven


def test_report__picture_escapes_names(big: Report) -> None:
    picture = report.svg(big)
    root = ElementTree.fromstring(picture)
    assert "Some <GPU>" in "".join(root.itertext())
    assert "86.7%" not in picture
    assert "92.9%" in picture  # of the same size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not available"),
        (0.0, "0 B/s"),
        (999.0, "999 B/s"),
        (1.5e6, "1.5 MB/s"),
        (1.4e15, "1.4 PB/s"),
    ],
)
def test_report__memory_and_floats__in_units_of_their_own(value: float | None, text: str) -> None:
    assert report.rate(value, "B/s") == text


def test_report__integer_rates__in_the_unit_that_orders_and_scores_have(big: Report) -> None:
    """People compare `bench` with `--min-score` and `provider show`; programs get the number."""
    console = Console(width=80, record=True, file=io.StringIO())
    report.show(big, console)
    text = console.export_text() + report.svg(big)
    assert "op/s" not in text
    assert f"{show_rate(int(big.main.proven))} over" in text
    assert report.machine_readable(big)["proven"] == big.main.proven
