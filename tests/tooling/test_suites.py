# SPDX-License-Identifier: Apache-2.0
"""The closing line of `make test` counts what the reports say."""

from __future__ import annotations

from pathlib import Path

from tests.suites import count


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
