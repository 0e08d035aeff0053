# SPDX-License-Identifier: Apache-2.0
"""What a tenant reads about what protects an order is what the contracts do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from teraproof.cli.main import main
from teraproof.market import notebook
from teraproof.market.conditions import capability_of, choices, conditions, judged, protection
from teraproof.market.packages import read
from teraproof.protocol.capability import Capability
from teraproof.protocol.jobspec import JobSpec, canonical, parse
from teraproof.protocol.terms import Judged, Order

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "finetune-digits"
COURT = Capability("finetune", "python-ml", "cpu")


def order(how: int) -> Order:
    return Order(bytes(32), 1, 1, 0, 60, 0, 0, 0, bytes(32), 1, how)


def spec(**changes: Any) -> JobSpec:
    return parse(canonical({**read(EXAMPLE).spec.to_json(), **changes}))


@pytest.mark.parametrize("how", [*Judged, 3, 2**128, COURT.number(), 2**256 - 1])
def test_any_order__also_of_later_contracts__can_be_shown(how: int) -> None:
    """A tenant's list of jobs must not break because one of them is judged in a new way."""
    for line in (
        protection(order(how)),
        judged(order(how)),
        dict(conditions(order(how)))["judged"],
    ):
        assert line and "\n" not in line


def test_order_of_a_court__its_capability_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    shown = judged(order(COURT.number()))
    assert f"{COURT.number():064x}" in shown and "run it again" in shown
    assert order(COURT.number()).capability == COURT.number()
    notebook.note_capability(COURT)
    digits = f"{COURT.number():064x}"
    assert f"{COURT} (0x{digits[:8]}...)" in judged(order(COURT.number()))
    # A note that was changed gives nothing another name.
    (tmp_path / "teraproof" / "capabilities" / digits).write_text("batch|python-ml|cpu")
    assert digits in judged(order(COURT.number()))
    assert "batch" not in judged(order(COURT.number()))


@pytest.mark.parametrize("how", [0, 1, 2, 2**128])
def test_small_number__no_capability(how: int) -> None:
    assert order(how).capability is None
    assert "jurors" not in judged(order(how))


def test_choices__deterministic__which_jurors_would_run_it_again() -> None:
    line = choices(spec())
    assert str(COURT) in line and "--judged court" in line and "juror seats" in line
    gpu = spec(resources={"cpus": 1, "memory_mb": 64, "disk_mb": 64, "gpus": 1})
    assert capability_of(gpu) == "finetune|python-ml|the class of its GPU"


def test_choices__not_deterministic__nobody_could() -> None:
    line = choices(spec(deterministic=False))
    assert "nobody can run this job again" in line and "python-ml" not in line
    assert "--judged court" not in line
    assert "\n" not in line


def test_choices__more_than_a_juror_has__said() -> None:
    line = choices(spec(resources={"cpus": 64, "memory_mb": 64, "disk_mb": 64, "gpus": 0}))
    assert "no juror can run this job again: cpus 64 is above the 2" in line


def test_protection__of_a_court__the_dispute_and_what_comes_back() -> None:
    line = protection(order(COURT.number()))
    assert "you can dispute it with a bond" in line and "brings the price back" in line
    assert "collateral" not in line  # this order asks for none


def test_check__says_it_without_a_chain() -> None:
    said = CliRunner().invoke(main, ["job", "check", str(EXAMPLE)])
    assert said.exit_code == 0
    words = " ".join(said.output.split())
    assert "--judged refusable" in words and "finetune|python-ml|cpu" in words
    found = CliRunner().invoke(main, ["job", "check", str(EXAMPLE), "--json"])
    assert json.loads(found.stdout)["capability"] == "finetune|python-ml|cpu"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compare": {"rule": "numeric", "rtol": 1e-5}}, 'write it as text, such as "1e-5"'),
        ({"timeout_seconds": 1.5}, "1.5 is not an integer; floats are refused"),
    ],
)
def test_check__a_number_with_a_point__what_to_write(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    for name in ("finetune.py", "base_model.npy", "job.json"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    document = json.loads((tmp_path / "job.json").read_text())
    (tmp_path / "job.json").write_text(json.dumps({**document, **changes}))
    shown = CliRunner(env={"COLUMNS": "250"}).invoke(main, ["job", "check", str(tmp_path)])
    line = " ".join(shown.output.split())
    assert shown.exit_code == 2 and said in line
    assert ("as text" in line) == ("compare" in changes)
