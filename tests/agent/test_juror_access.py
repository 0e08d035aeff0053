# SPDX-License-Identifier: Apache-2.0
"""Jurors ask at public places alone. Who takes judged orders elsewhere gets a warning first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.core.trial import Finding, Mark, finding
from provider_agent.modules.jobs.checks import JobChecks
from provider_agent.settings import validate
from tests.agent.duty_parts import JOBS, STAKING

CHAIN = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "staking": STAKING, "jobs": JOBS}


def looked(url: str, judged: list[str], networks: list[str]) -> Finding | None:
    document: dict[str, Any] = {
        "chain": CHAIN,
        "operator": {},
        "api": {"public_url": url},
        "agent": {"private_networks": networks},
        "jobs": {"accept_judged": judged},
    }
    trial = SimpleNamespace(settings=validate(document))
    checks = dict(JobChecks(cast(Any, trial), JOBS).all())
    return finding("jurors", checks["jurors"]) if "jurors" in checks else None


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8700", "http://10.1.2.3:8700", "http://localhost:8700"),
        *("http://[::1]:8700", "https://8.8.8.8:444", "https://a.example:22"),
    ],
)
def test_place_where_no_juror_asks__a_warning(url: str) -> None:
    found = looked(url, ["anyone"], [])
    assert found is not None and found.mark is Mark.WARN
    assert "jobs.accept_judged" in found.line, "what to do"
    assert looked(url, [], []) is None, "without such orders nobody asks"


@pytest.mark.parametrize(
    "url, networks",
    [
        ("https://a.example", []),
        ("http://8.8.8.8:8700", []),
        ("http://127.0.0.1:8700", ["127.0.0.0/8"]),
    ],
)
def test_place_where_jurors_ask__fine(url: str, networks: list[str]) -> None:
    found = looked(url, ["anyone"], networks)
    assert found is not None and found.mark is Mark.OK
