# SPDX-License-Identifier: Apache-2.0
"""A node with a deployed market for each test file that asks for it, and people with accounts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from tests.scripts.actors import deploy, sender_of
from tests.sdk.courtroom import JURORS, SEATS, Courtroom, deploy_court
from tests.sdk.person import PASSWORD, Person, secret
from tests.support.anvil import ROOT, Anvil


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with Anvil() as running:
        yield running


@pytest.fixture(scope="module")
def home(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scripts.deployment import plan
    from scripts.deployment.artifacts import compile_all

    folder = tmp_path_factory.mktemp("home")
    artifacts = compile_all()
    wanted = plan.load(ROOT / "deployments" / "params" / "local.yaml", artifacts)
    deploy(wanted, artifacts, sender_of(anvil, 0), folder / "deployments")
    return folder


@pytest.fixture(scope="module")
def tenant(home: Path, anvil: Anvil) -> Person:
    """With a private key file."""
    account = Account.create()
    anvil.set_balance(account.address, 10**18)
    key = secret(home / "tenant.key", account.key.hex())
    return Person(home, anvil, str(account.address), ("--key-file", str(key), "--yes"))


@pytest.fixture(scope="module")
def owner(home: Path, anvil: Anvil) -> Person:
    """With an encrypted keystore."""
    account = Account.create()
    anvil.set_balance(account.address, 10**18)
    encrypted = Account.encrypt(account.key, PASSWORD, kdf="pbkdf2", iterations=1_000)
    keystore = secret(home / "owner.json", json.dumps(encrypted))
    password = secret(home / "password", PASSWORD + "\n")
    key = ("--keystore", str(keystore), "--password-file", str(password), "--yes")
    return Person(home, anvil, str(account.address), key)


# ---------------------------------------------------------------------- a court


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courtroom]:
    with Anvil() as running:
        yield deploy_court(tmp_path_factory.mktemp("court"), running)


@pytest.fixture(scope="module")
def full(empty: Courtroom) -> Iterator[Courtroom]:
    with empty.anvil.isolated():
        for _ in range(JURORS):
            empty.juror(SEATS)
        empty.anvil.increase_time(empty.court.period("latest"))
        yield empty
        empty.jurors.clear()


@pytest.fixture
def room(full: Courtroom) -> Iterator[Courtroom]:
    with full.anvil.isolated():
        yield full
