# SPDX-License-Identifier: Apache-2.0
"""`provider-agent lease leave`: what the owner wants reaches the agent, or nothing happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from provider_agent.app import DATABASE
from provider_agent.cli.main import main
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.repository import LeasesRepository
from provider_agent.modules.leases.wishes import Wish, forget, wish, wishes
from teraproof.protocol.errors import Exit
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from tests.agent.api_rig import TENANT


def terms(**changes: Any) -> LeaseTerms:
    values: dict[str, Any] = {
        "spec": b"\x01" * 32, "start_rate": 5, "max_rate": 5, "deposit": 10**6,
        "collateral": 10**18, "ready_within": 60, "term": 3_600, "notice": 120, "auction": 0,
        "min_stake": 0, "min_score": 0, "allow_root": bytes(32), "nonce": 1, **changes,
    }  # fmt: skip
    return LeaseTerms(TENANT.address, 1_795_000_000, 30, 100, 0, LeaseOrder(**values))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "provider.toml").write_text(
        "[chain]\nrpc_urls = ['http://127.0.0.1:1']\nchain_id = 1\n"
        f"staking = '0x{'0a' * 20}'\n[operator]\n[agent]\ndata_dir = 'data'\n"
    )
    (tmp_path / "data").mkdir()
    store = open_store(tmp_path / "data" / DATABASE)
    leases = LeasesRepository(store)
    for nonce in (1, 2):
        one = terms(nonce=nonce)
        leases.add(one)
        leases.update(one.lease_id(), status=LeaseStatus.ACTIVE, is_ours=1, word=3)
    store.close()
    return tmp_path


def leave(home: Path, *arguments: str, answer: str | None = None) -> Result:
    config = str(home / "provider.toml")
    return CliRunner().invoke(
        main, ["lease", "leave", *arguments, "--config", config], input=answer
    )


def wanted(home: Path) -> dict[bytes, Wish]:
    return dict(wishes(home / "data"))


@pytest.mark.parametrize("digits", [64, 12])
def test_leave__by_id_or_what_status_shows__notice_is_wanted(home: Path, digits: int) -> None:
    lease = terms().lease_id()
    result = leave(home, "0x" + lease.hex()[:digits])
    assert result.exit_code == 0, result.output
    assert "notice of 120 s" in result.output
    assert wanted(home) == {lease: Wish.NOTICE}


def test_leave_now__asks_what_it_costs(home: Path) -> None:
    lease = terms().lease_id()
    result = leave(home, lease.hex(), "--now", answer="n\n")
    assert result.exit_code == Exit.REFUSED and "1 TPF" in result.output
    assert wanted(home) == {}
    assert leave(home, lease.hex(), "--now", "--yes").exit_code == 0
    assert wanted(home) == {lease: Wish.LEAVE}


@pytest.mark.parametrize("name", ["0x12", "lease", "0x" + "0" * 64])
def test_leave__no_lease_of_ours__one_line_and_nothing_done(home: Path, name: str) -> None:
    result = leave(home, name)
    assert result.exit_code == Exit.INPUT
    assert result.output.startswith("error: ") and result.output.count("\n") == 1
    assert wanted(home) == {}


def test_leave__agent_has_never_run__says_so(home: Path) -> None:
    (home / "data" / DATABASE).unlink()
    result = leave(home, "0x" + "1" * 64)
    assert result.exit_code == Exit.INPUT
    assert "has not run yet" in result.output


def test_wishes__what_is_not_one_is_passed_over(tmp_path: Path) -> None:
    assert list(wishes(tmp_path)) == []
    wish(tmp_path, b"\x01" * 32, Wish.NOTICE)
    (tmp_path / "lease-wishes" / ("0" * 64)).write_text("dance")
    (tmp_path / "lease-wishes" / "note.txt").write_text("notice")
    assert list(wishes(tmp_path)) == [(b"\x01" * 32, Wish.NOTICE)]
    forget(tmp_path, b"\x01" * 32)
    forget(tmp_path, b"\x02" * 32)
    assert list(wishes(tmp_path)) == []
