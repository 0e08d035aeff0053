# SPDX-License-Identifier: Apache-2.0
"""`make test` runs every test file once, and its closing line counts what the reports say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.suites import SUITES, TESTS, LaneError, Suite, count, is_here, lanes_of
from tests.support import budget


def test_count__errors_count_as_failed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2"/></testsuites>'
    )
    assert str(count(report)) == "3 passed, 2 failed, 2 skipped"


def test_count__no_suite__is_zero(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text("<testsuites/>")
    assert str(count(report)) == "0 passed, 0 failed, 0 skipped"


def test_lanes__every_test_file_is_in_one() -> None:
    run = [path for suite in SUITES for lane in lanes_of(suite) for path in lane.files]
    assert sorted(run) == sorted(TESTS.rglob("test_*.py"))


def test_suite__without_its_environment__is_left_out_and_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not is_here(Suite("agent_ray", ".venv-nowhere", optional=True))
    assert "agent_ray is skipped" in capsys.readouterr().out
    # One that everybody can have is never left out in silence.
    assert is_here(Suite("tooling", ".venv-nowhere"))


def test_lanes__a_name_that_is_not_there__is_told() -> None:
    with pytest.raises(LaneError, match="has no tests named test_gone"):
        lanes_of(Suite("tooling", ".venv", apart=(("test_gone",),)))


def test_budget__a_part_is_the_same_each_time_and_leaves_no_case_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases, others = [*range(7)], ["a", "b", "c"]
    monkeypatch.delenv(budget.DEEP, raising=False)
    part = budget.crossed(cases, others)
    assert part == budget.crossed(cases, others) and [case for case, _ in part] == cases
    assert {other for _, other in part} == set(others)
    assert {(case % 3, other) for case, other in budget.crossed(range(9), others)} == {
        (n, other) for n in range(3) for other in others
    }
    assert (budget.of(2, 9), budget.every(3, cases)) == (2, [0, 3, 6])
    monkeypatch.setenv(budget.DEEP, "1")
    assert len(set(budget.crossed(cases, others))) == 21
    assert (budget.of(2, 9), budget.every(3, cases)) == (9, cases)
