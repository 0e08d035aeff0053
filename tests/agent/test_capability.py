# SPDX-License-Identifier: Apache-2.0
"""Capabilities: one number for what a juror must be able to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_utils.crypto import keccak

from provider_agent.core.capabilities import capabilities
from provider_agent.devices import Device
from teraproof.errors import WrongInput
from teraproof.protocol.capability import KINDS, Capability, capability, gpu_class, of_job
from tests.agent.test_policy import make_spec

SCHEMA = Path(__file__).resolve().parents[2] / "teraproof/protocol/job_spec.schema.json"


def gpu(name: str, index: int = 0) -> Device:
    return Device("cuda", index, name, f"GPU-{index}", 1 << 30)


def test_capability__fixed_value() -> None:
    """Computed once with another library: jurors of every version register the same number."""
    text = b"finetune|python-ml|cpu"
    assert capability("finetune", "python-ml", "cpu") == keccak(text)
    assert keccak(text).hex().removeprefix("0x") == FIXED
    assert Capability("finetune", "python-ml", "cpu").number() == int(FIXED, 16)


FIXED = "7caa52409ff36d704d1e4884828953c919bce10afeb51bf417986011c1d4131b"


def test_kinds__those_of_specifications() -> None:
    assert sorted(KINDS) == sorted(json.loads(SCHEMA.read_text())["properties"]["kind"]["enum"])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100"),
        ("NVIDIA H100 PCIe", "nvidia-h100-pcie"),
        ("NVIDIA H100 NVL", "nvidia-h100-nvl"),
        ("NVIDIA H200", "nvidia-h200"),
        ("NVIDIA GH200 480GB", "nvidia-gh200"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm4"),
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100-sxm4"),
        ("Tesla V100-SXM2-16GB", "nvidia-v100-sxm2"),
        ("Tesla T4", "nvidia-t4"),
        ("NVIDIA GeForce RTX 4090", "nvidia-rtx-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "nvidia-rtx-4090-laptop"),
        ("NVIDIA GeForce RTX 3080 Ti", "nvidia-rtx-3080-ti"),
        ("NVIDIA RTX 6000 Ada Generation", "nvidia-rtx-6000-ada"),
        ("NVIDIA RTX A6000", "nvidia-rtx-a6000"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "nvidia-h100-mig-1g.10gb"),
        ("", None),
        ("NVIDIA", None),
        ("é|\n", None),
        ("x" * 200, None),
    ],
)
def test_gpu_class__one_spelling(name: str, wanted: str | None) -> None:
    assert gpu_class(name) == wanted
    # What was written once is not written in another way the second time.
    assert wanted is None or gpu_class(wanted) == wanted


@pytest.mark.parametrize(
    "parts",
    [
        ("mine", "python-ml", "cpu"),
        ("train|x", "python-ml", "cpu"),
        ("train", "python|ml", "cpu"),
        ("train", "Python", "cpu"),
        ("train", "", "cpu"),
        ("train", "python-ml", ""),
        ("train", "python-ml", "NVIDIA H100"),
        ("train", "python-ml", "cpu\n"),
        ("train", "python-ml", "a|b"),
    ],
)
def test_capability__two_spellings_of_one_thing__refused(parts: tuple[str, str, str]) -> None:
    with pytest.raises(WrongInput, match="capability"):
        Capability(*parts)


def test_of_job__by_what_it_needs() -> None:
    assert str(of_job(make_spec())) == "batch|python-ml|cpu"
    assert str(of_job(make_spec(), "nvidia-h100")) == "batch|python-ml|cpu"
    one = make_spec(resources={"gpus": 1})
    assert str(of_job(one, "nvidia-h100")) == "batch|python-ml|nvidia-h100"
    eight = make_spec(resources={"gpus": 8})
    assert str(of_job(eight, "nvidia-h100")) == "batch|python-ml|nvidia-h100x8"
    with pytest.raises(WrongInput, match="name their class"):
        of_job(one)


def test_capabilities__of_a_machine_without_gpus() -> None:
    found = capabilities(["python-ml"], 0, [Device("cpu", 0, "EPYC", "", 1)])
    assert [str(one) for one in found] == [f"{kind}|python-ml|cpu" for kind in KINDS]
    assert capabilities([], 1, [gpu("NVIDIA H100 NVL")]) == []


def test_capabilities__no_more_gpus_than_there_are_or_a_job_is_given() -> None:
    cards = [gpu("NVIDIA H100 80GB HBM3", n) for n in range(3)] + [gpu("Tesla T4", 3), gpu("", 4)]

    def hardware(given: int) -> set[str]:
        found = capabilities(["b", "a", "a"], given, cards)
        assert found == sorted(set(found), key=str)
        return {one.hardware for one in found}

    assert hardware(0) == {"cpu"}
    assert hardware(1) == {"cpu", "nvidia-h100", "nvidia-t4"}
    assert hardware(2) == {"cpu", "nvidia-h100", "nvidia-h100x2", "nvidia-t4"}
    assert hardware(8) == {"cpu", "nvidia-h100", "nvidia-h100x2", "nvidia-h100x3", "nvidia-t4"}


def test_capabilities__those_of_the_jobs_that_it_runs() -> None:
    """A machine can judge what it can run."""
    found = capabilities(["python-ml"], 1, [gpu("NVIDIA A100-SXM4-40GB")])
    for gpus in (0, 1):
        spec = make_spec(resources={"gpus": gpus})
        assert of_job(spec, gpu_class("NVIDIA A100-SXM4-80GB")) in found
