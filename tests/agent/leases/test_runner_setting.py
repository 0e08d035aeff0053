# SPDX-License-Identifier: Apache-2.0
"""The setting that says what contains leases, and what each of its values needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from provider_agent.errors import RunnerError, SettingsError
from provider_agent.modules.leases import engine
from provider_agent.modules.leases.fleet_stock import FleetStock
from provider_agent.modules.leases.plane import plane_settings
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.settings import validate
from teraproof.protocol.errors import Code

OPERATOR = "0x" + "Ab" * 20
FLEET: dict[str, Any] = {
    "runner": "ray",
    "ray_address": "10.0.0.1:6379",
    "ray_token_file": "/run/secrets/ray",
}


def settings(place: Path, **leases: Any) -> Any:
    address = "0x" + "11" * 20
    return validate(
        {
            "chain": {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "staking": address},
            "operator": {},
            "agent": {"data_dir": place},
            "runner": {"disk_reserve_mb": 3},
            "leases": {"core_price": 1, **leases},
        }
    )


def test_without_a_word__leases_run_in_docker_here(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert isinstance(engine.make_lease_runner(found, OPERATOR), DockerRunner)
    assert not plane_settings(found).containers_here


def test_ray__machines_hear_the_settings_of_docker(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    found = settings(tmp_path, **FLEET, image_mb=7, addresses="10.9.0.0/16", docker_socket="/d")
    runner = engine.make_fleet_runner(found, OPERATOR)
    terms = runner._terms
    assert terms.address == "10.0.0.1:6379"
    assert terms.agent == OPERATOR.lower()
    assert terms.engine["socket"] == "/d"
    assert terms.engine["pool"] == "10.9.0.0/16"
    assert terms.engine["image_bytes"] == 7 << 20
    assert terms.engine["reserve"] == 3 << 20
    stock = engine.make_stock(found, None, None, runner)  # type: ignore[arg-type]  # it keeps them
    assert isinstance(stock, FleetStock)
    # Ports are carried to loopback here; nothing else that listens there is a lease's.
    assert plane_settings(found).containers_here
    with pytest.raises(RunnerError, match="holds no token of Ray") as caught:
        runner.check()
    assert caught.value.code is Code.SETTINGS_INVALID
    runner.close()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ray_address": ""}, "ray_address: give HOST:PORT"),
        ({"ray_address": "10.0.0.1"}, "ray_address: give HOST:PORT"),
        ({"ray_address": "10.0.0.1:port"}, "ray_address: give HOST:PORT"),
        ({"ray_address": "10.0.0.1:70000"}, "ray_address: give HOST:PORT"),
        ({"ray_token_file": None}, "ray get-auth-token"),
        ({"ray_data_dir": "here"}, "ray_data_dir: give a whole path"),
        ({"cpus": 4}, "cpus: leave it out"),
        ({"memory_mb": 4}, "memory_mb: leave it out"),
        ({"disk_mb": 4}, "disk_mb: leave it out"),
        ({"runner": "podman"}, "docker"),
    ],
)
def test_ray__with_something_missing_or_twice__one_line_that_says_what_to_do(
    changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        LeasesSettings(**{**FLEET, **changes})
    (fault,) = caught.value.errors()
    assert word in fault["msg"]
    assert "\n" not in fault["msg"]


def test_ray__without_what_its_extra_brings__says_which_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith("provider_agent.runners.ray"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SettingsError, match=r"install the extra `ray`"):
        engine.make_lease_runner(settings(tmp_path, **FLEET), OPERATOR)
