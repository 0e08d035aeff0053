# SPDX-License-Identifier: Apache-2.0
"""`provider-agent prove`: its JSON is the published vectors, its errors are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.cli import main as cli
from teraproof.pog import format as pog
from teraproof.pog.opening import Opening, verify
from teraproof.protocol.errors import Exit
from tests.agent.benchmark.vectors import NAMES, VECTORS, Vector

GOOD = {"--challenge": "ab" * 32, "--size": "256", "--blocks": "1", "--rounds": "1"}


def call(options: dict[str, str]) -> Result:
    arguments = [part for pair in options.items() for part in pair]
    return CliRunner().invoke(cli.main, ["prove", *arguments])


def proved(options: dict[str, str]) -> dict[str, Any]:
    result = call(options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(changes: dict[str, str], kind: Exit = Exit.INPUT) -> str:
    result = call(GOOD | changes)
    assert result.exit_code == kind, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def options_of(vector: Vector, prefix: str = "0x") -> dict[str, str]:
    seed = pog.sample_seed(vector.draw, vector.rounds, vector.commitment, vector.challenge)
    return {
        "--challenge": prefix + vector.challenge.hex(),
        "--size": str(vector.shape.n),
        "--blocks": str(vector.shape.blocks),
        "--rounds": str(vector.rounds),
        "--open": prefix + seed.hex(),
        "--samples": str(len(vector.openings)),
    }


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("vector", VECTORS, ids=NAMES)
def test_prove__published_vectors(vector: Vector, device: str) -> None:
    found = proved(options_of(vector) | {"--device": device})
    assert found["format"] == "TERAPROOF-POG-2"
    assert found["challenge"] == "0x" + vector.challenge.hex()
    assert (found["size"], found["blocks"]) == (vector.shape.n, vector.shape.blocks)
    assert (found["depth"], found["rounds"]) == (vector.shape.depth, vector.rounds)
    assert found["seed_A"] == "0x" + vector.seed_a.hex()
    assert found["seeds_B"] == ["0x" + seed.hex() for seed in vector.seeds_b]
    assert found["roots"] == ["0x" + root.hex() for root in vector.roots]
    assert found["commitment"] == "0x" + vector.commitment.hex()
    assert found["operations"] == vector.shape.operations * vector.rounds
    for number, (one, shown) in enumerate(zip(vector.openings, found["openings"], strict=True)):
        opening = one.opening
        assert shown == {
            "sample": number,
            "t": one.sample.t,
            "i": one.sample.i,
            "j": one.sample.j,
            "value": one.value,
            "leaf": "0x" + opening.leaf.hex(),
            "leaf_index": one.leaf_index,
            "path": ["0x" + node.hex() for node in opening.leaf_path],
            "root": "0x" + opening.root.hex(),
            "root_path": ["0x" + node.hex() for node in opening.root_path],
            "root_two_before": "0x" + opening.root_before.hex(),
            "root_two_before_path": ["0x" + node.hex() for node in opening.path_before],
            "encoded": "0x" + opening.encode().hex(),
        }
        decoded = Opening.decode(bytes.fromhex(shown["encoded"][2:]), vector.shape, vector.rounds)
        verify(
            decoded, one.sample, vector.challenge, vector.shape, vector.rounds, vector.commitment
        )


def test_prove__without_openings_and_without_prefix() -> None:
    vector = VECTORS[0]
    options = options_of(vector, prefix="")
    del options["--open"], options["--samples"]
    found = proved(options)
    assert found["commitment"] == "0x" + vector.commitment.hex()
    assert "openings" not in found
    assert "sample_seed" not in found


def test_prove__eight_samples_unless_told() -> None:
    options = options_of(VECTORS[0])
    del options["--samples"]
    found = proved(options)
    assert found["sample_seed"] == options["--open"]
    assert [one["sample"] for one in found["openings"]] == list(range(8))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"--challenge": ""}, "--challenge must be 32 bytes"),
        ({"--challenge": "0x"}, "--challenge must be 32 bytes"),
        ({"--challenge": "ab" * 31}, "--challenge must be 32 bytes"),
        ({"--challenge": "ab" * 33}, "--challenge must be 32 bytes"),
        ({"--challenge": "0x0x" + "ab" * 31}, "--challenge must be 32 bytes"),
        ({"--challenge": "zz" * 32}, "--challenge must be 32 bytes"),
        ({"--challenge": " " + "ab" * 31 + "a"}, "--challenge must be 32 bytes"),
        ({"--open": "ab" * 31}, "--open must be 32 bytes"),
        ({"--size": "255"}, "size must be a power of two from 256 to 65536, not 255"),
        ({"--size": "-256"}, "size must be a power of two"),
        ({"--size": "131072"}, "size must be a power of two"),
        ({"--blocks": "0"}, "blocks must be 1 to 277, not 0"),
        ({"--blocks": "278"}, "blocks must be 1 to 277, not 278"),
        ({"--rounds": "0"}, "rounds must be 1 to 16777216, not 0"),
        ({"--rounds": "16777217"}, "rounds must be 1 to 16777216"),
        ({"--samples": "3"}, "give --open"),
        ({"--open": "ab" * 32, "--samples": "0"}, "samples must be 1 to 256, not 0"),
        ({"--open": "ab" * 32, "--samples": "257"}, "samples must be 1 to 256"),
        ({"--device": "tpu"}, "device 'tpu' is unknown; use cpu, numpy, cuda"),
        ({"--device": "cuda:0,0"}, "names a GPU twice"),
    ],
    ids=str,
)
def test_prove__bad_input_is_one_line(changes: dict[str, str], line: str) -> None:
    assert line in refused(changes)


@settings(max_examples=60)
@given(st.sampled_from(["--challenge", "--open"]), st.text(max_size=70))
def test_prove__any_text_for_32_bytes(option: str, text: str) -> None:
    """Whatever it is, unless it happens to be right, it is refused in one line."""
    digits = text.removeprefix("0x")
    if len(digits) == 64 and set(digits) <= set("0123456789abcdefABCDEF"):
        return
    assert f"{option} must be 32 bytes" in refused({option: text})


@settings(max_examples=60)
@given(st.integers(), st.integers(), st.integers())
def test_prove__any_numbers(size: int, blocks: int, rounds: int) -> None:
    sizes = {256 << k for k in range(9)}
    if size in sizes and 1 <= blocks <= 277 and 1 <= rounds <= 1 << 24:
        return
    refused({"--size": str(size), "--blocks": str(blocks), "--rounds": str(rounds)})


@pytest.mark.parametrize("option", ["--size", "--blocks", "--rounds"])
@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3"])
def test_prove__not_a_number(option: str, text: str) -> None:
    result = call(GOOD | {option: text})
    assert result.exit_code == 2
    assert "is not a valid integer" in result.stderr


@pytest.mark.parametrize("option", GOOD)
def test_prove__missing_option(option: str) -> None:
    result = call({name: value for name, value in GOOD.items() if name != option})
    assert result.exit_code == 2
    assert f"Missing option '{option}'" in result.stderr


def test_prove__out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("provider_agent.prover.cpu.CpuEngine.prepare", exhausted)
    assert "choose a smaller --size or --blocks" in refused({}, Exit.FAULT)


def test_cli__commands_that_are_loaded_later_are_listed() -> None:
    shown = CliRunner().invoke(cli.main, ["--help"])
    assert shown.exit_code == 0
    assert {"bench", "prove", "run"} <= {
        line.split()[0] for line in shown.stdout.splitlines() if line
    }
    assert CliRunner().invoke(cli.main, ["nothing"]).exit_code == 2


def test_cli__other_commands_do_not_load_numpy() -> None:
    code = (
        "import sys; from provider_agent.cli import main as cli; "
        "cli.main(['check', '--help'], standalone_mode=False); "
        "sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help__one_line_a_field() -> None:
    said = CliRunner().invoke(cli.main, ["prove", "--help"]).output
    assert "\\b" not in said and "\b" not in said
    assert any(line.strip().startswith("seed_A ") for line in said.splitlines())
    assert any(line.strip().startswith("openings ") for line in said.splitlines())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_cannot_be_written__one_line() -> None:
    command = [sys.executable, "-m", "provider_agent", "prove", "--challenge", "11" * 32]
    command += ["--size", "256", "--blocks", "1", "--rounds", "1"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the proof cannot be written" in done.stderr
