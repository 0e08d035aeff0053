# SPDX-License-Identifier: Apache-2.0
"""What else the machine does during a measurement. Counters are given, nothing is timed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provider_agent import devices
from provider_agent.devices import Device, Sample
from provider_agent.prover.bench import busy


def stat(path: Path, user: float, idle: float) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    path.write_text(f"cpu  {user * ticks:.0f} 0 0 {idle * ticks:.0f} 5 0 0 0 99 0\ncpu0 1 2\n")


@pytest.mark.parametrize(
    ("others", "own", "share"),
    [(0.0, 0.0, 0.0), (10.0, 0.0, 0.5), (6.0, 10.0, 0.3), (-3.0, 3.0, 0.0), (90.0, 0.0, 1.0)],
)
def test_others__part_of_the_cores(
    others: float, own: float, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, used, file = [100.0], [7.0], tmp_path / "stat"
    monkeypatch.setattr(busy, "_STAT", file)
    monkeypatch.setattr(busy, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(busy, "_own_seconds", lambda: used[0])
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    stat(file, 1000.0, 500.0)
    watched = busy.Others()
    clock[0], used[0] = 105.0, 7.0 + own
    stat(file, 1000.0 + others + own, 510.0)
    assert watched.share() == pytest.approx(share)


@pytest.mark.parametrize("text", [None, "", "intr 5", "cpu 1 2", "cpu a b c d e f g h"])
def test_others__where_the_system_does_not_tell(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy, "_STAT", tmp_path / "stat")
    if text is not None:
        (tmp_path / "stat").write_text(text)
    assert busy.Others().share() is None


def test_others__of_this_machine() -> None:
    watched = busy.Others()
    sum(range(100_000))
    share = watched.share()
    assert share is None or 0 <= share <= 1


def test_gpus_in_use__by_what_nvml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"GPU-0": 80, "GPU-1": 3, "GPU-2": None}
    monkeypatch.setattr(
        devices,
        "sample",
        lambda device: Sample(utilisation_percent=used[device.uuid]),
    )
    found = [Device("cuda", k, "g", f"GPU-{k}", 1) for k in range(3)]
    assert busy.gpus_in_use([*found, Device("cpu", 0, "c", "c", 1)]) == [
        "cuda:0 was 80 % in use before"
    ]


def test_notes__only_what_matters() -> None:
    assert busy.notes([], None, None) == busy.notes([], 0.02, 0.03) == []
    assert busy.notes(["a GPU was in use"], 0.25, 0.4) == [
        "a GPU was in use",
        "other programs had 25% of the cores",
        "the raw rates before and after the proof differ by 40%",
    ]
