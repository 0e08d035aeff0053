# SPDX-License-Identifier: Apache-2.0
"""What a data plane cannot carry is said before anybody pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provider_agent.dataplane.fit import refusal
from provider_agent.dataplane.plane import PlaneSettings
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import Http, Port
from tests.agent.dataplane.conftest import service, spec

RANGE = (30_000, 30_001)


def public(number: int = 80, protocol: str = "tcp", **more: Any) -> Port:
    return Port(8080, number, protocol, public=True, **more)


def refused(*ports: Port, **settings: Any) -> str:
    found = refusal(spec(service("web", 1, *ports)), PlaneSettings(Path("state"), **settings))
    if found is None:
        return ""
    assert found.code is Code.LEASE_UNFIT
    return str(found)


@pytest.mark.parametrize(
    ("ports", "settings", "said"),
    [
        ([public(53, "udp")], {"outer": RANGE}, "port 53 is UDP"),
        ([public(hosts=("a.example",))], {"outer": RANGE}, "accept"),
        ([public()], {}, "no public ports"),
        ([public(1), public(2), public(3)], {"outer": RANGE}, "3 public ports"),
    ],
)
def test_not_carried__refused_by_name(
    ports: list[Port], settings: dict[str, Any], said: str
) -> None:
    assert said in refused(*ports, **settings)


@pytest.mark.parametrize(
    ("ports", "settings"),
    [
        ([Port(53, 53, "udp", public=False)], {}),
        ([public(http=Http(max_body_bytes=1, next_cases=()))], {"outer": RANGE}),
        ([public(hosts=("a.example",))], {"outer": RANGE, "names_port": 443}),
        ([public(hosts=("a.example",))], {"names_port": 443}),
        ([public(1), public(2)], {"outer": RANGE}),
    ],
)
def test_carried__not_refused(ports: list[Port], settings: dict[str, Any]) -> None:
    assert refused(*ports, **settings) == ""
