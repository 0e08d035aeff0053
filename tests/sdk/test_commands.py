# SPDX-License-Identifier: Apache-2.0
"""The commands with a key file and an RPC URL, on a real node: a tenant's and an owner's day."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from teraproof.cli.main import main
from teraproof.protocol.errors import Exit
from tests.scripts.actors import chain_of
from tests.sdk.person import EXAMPLE, USD, Person, secret
from tests.support.anvil import ROOT


def test_job__posted_listed_cancelled_withdrawn__every_step_in_json(tenant: Person) -> None:
    minted = tenant.json("tokens", "mint", "100")
    assert minted["amount"] == str(100 * USD)
    (sent,) = minted["transactions"]
    assert sent["what"] == "mint 100 tUSD" and int(sent["fee"]) > 0

    said = tenant.fails(Exit.REFUSED, "job", "post", EXAMPLE, "--price", "2")
    assert "no provider is registered" in said
    assert tenant.json("job", "list") == {"jobs": []}  # no money has moved
    posted = tenant.json("job", "post", EXAMPLE, "--price", "2", "--wait-for-provider")
    assert posted["max_price"] == str(2 * USD)

    (listed,) = tenant.json("job", "list")["jobs"]
    assert listed["job"] == posted["job"] and listed["status"] == "open"
    assert listed["name"] == "finetune-digits"  # posted from this machine
    assert tenant.json("job", "status", posted["job"][:12], signs=False)["job"] == posted["job"]
    shown = tenant.run("job", "list")
    assert "finetune-digits" in shown.output

    waited = tenant.fails(
        Exit.UNAVAILABLE, "job", "wait", posted["job"], "--timeout", "1", signs=False
    )
    assert "is still open" in waited
    tenant.json("job", "cancel", posted["job"])
    ended = tenant.fails(Exit.JOB_FAILED, "job", "wait", posted["job"], signs=False)
    assert "did not succeed: cancelled" in ended
    assert tenant.json("job", "withdraw")["payment"] == str(2 * USD)


def test_provider__nobody_there__said_and_empty(owner: Person) -> None:
    shown = owner.json("provider", "list", signs=False)
    assert shown == {"providers": [], "notes": ["no provider is registered here"]}
    said = owner.fails(Exit.INPUT, "provider", "stake", "5")
    assert f"{owner.account} is not a registered provider" in said
    assert owner.json("proof", "status", signs=False)["epoch"] == 0
    assert owner.json("rewards", "weights", signs=False)["weights_bps"]


def test_json__refused__the_document_says_why(tenant: Person) -> None:
    shown = tenant.run("job", "withdraw", *tenant.key, "--json")
    said, _, document = shown.output.partition("{")
    error = json.loads("{" + document)["error"]
    assert shown.exit_code == Exit.FAULT and said.startswith("error: ")
    assert error["code"] == "failed" and "nothing to withdraw" in error["message"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("job", "withdraw", "--yes"), "pass --keystore FILE with --password-file FILE"),
        (("job", "withdraw", "--keystore", "x", "--key-file", "y"), "not both"),
        (("job", "withdraw", "--keystore", "x"), "needs --password-file where there is no term"),
        (("job", "withdraw", "--key-file", "{home}/absent"), "cannot read"),
        (("job", "withdraw", "--key-file", "{home}/open.key"), "can be read by others"),
        (("job", "withdraw", "--key-file", "{home}/bad.key"), "does not hold a private key"),
    ],
)
def test_account__missing_or_wrong__one_line_and_no_secret(
    tenant: Person, line: tuple[str, ...], said: str
) -> None:
    open_file = tenant.home / "open.key"
    open_file.write_text("11" * 32)
    open_file.chmod(0o644)
    secret(tenant.home / "bad.key", "not a key but a secret")
    shown = tenant.run(*(part.format(home=tenant.home) for part in line))
    assert shown.exit_code == Exit.INPUT
    assert said in shown.output and "but a secret" not in shown.output


def test_password__not_needed_where_nothing_is_signed(owner: Person) -> None:
    """The keystore names its account; a password is asked for when something is signed."""
    wrong = secret(owner.home / "wrong", "guess\n")
    line = ("--keystore", owner.key[1], "--password-file", str(wrong), "--json")
    shown = owner.run("job", "list", *line)
    assert shown.exit_code == 0 and json.loads(shown.output) == {"jobs": []}


@pytest.mark.parametrize("named", ["0x" + "11" * 20, None, 7, "no address"])
def test_keystore__names_another_account_or_none__never_signed_for_it(
    owner: Person, named: object
) -> None:
    document = json.loads(Path(owner.key[1]).read_text()) | {"address": named}
    odd = secret(owner.home / "odd.json", json.dumps(document))
    shown = owner.run("tokens", "mint", "1", "--keystore", str(odd), *owner.key[2:], "--json")
    if named == "0x" + "11" * 20:
        assert shown.exit_code == Exit.INPUT
        assert "is not that of the address it names" in shown.output
    else:
        assert shown.exit_code == 0, shown.output
        assert owner.anvil.nonce(owner.account) > 0


def test_wrong_password__one_line(owner: Person) -> None:
    wrong = secret(owner.home / "wrong", "battery staple")
    keystore = owner.key[1]
    shown = owner.run("job", "withdraw", "--keystore", keystore, "--password-file", str(wrong))
    assert shown.exit_code == Exit.INPUT and "cannot be opened with the password" in shown.output


def test_key__new_one__opens_with_its_password_and_replaces_none(
    tenant: Person, tmp_path: Path
) -> None:
    keystore, password = tmp_path / "new.json", tmp_path / "new.password"
    line = ("key", "new", str(keystore), "--password-file", str(password))
    made = tenant.json(*line, signs=False)["address"]
    assert {oct(path.stat().st_mode)[-3:] for path in (keystore, password)} == {"600"}
    shown = tenant.run("key", "address", *line[2:])
    assert shown.output == made + "\n"
    assert "exists already" in tenant.fails(Exit.INPUT, *line, signs=False)


def test_ask__no_terminal_and_no_yes__refused_before_anything_is_sent(tenant: Person) -> None:
    nonce = tenant.anvil.nonce(tenant.account)
    shown = tenant.run(
        "job", "post", EXAMPLE, "--price", "1", "--wait-for-provider", *tenant.key[:2]
    )
    assert shown.exit_code == Exit.INPUT
    assert "nobody is there to ask; pass --yes" in shown.output
    assert tenant.anvil.nonce(tenant.account) == nonce


def test_rpc__accepts_and_never_answers__ends_by_itself_and_says_what_it_waits_for(
    tenant: Person,
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "teraproof", "job", "list", "--rpc-url", url],
            cwd=ROOT,
            env={**os.environ, "TERAPROOF_DEPLOYMENTS": str(tenant.home / "deployments")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == Exit.UNAVAILABLE
    assert done.stderr.splitlines() == [
        "waiting for the RPC endpoint ...",
        "error: no RPC endpoint answers: rpc1 (127.0.0.1) timed out; check the RPC URL",
    ]


def test_deployment__one_file_instead_of_a_directory(tenant: Person) -> None:
    file = tenant.home / "deployments" / f"{tenant.anvil.chain_id}.json"
    shown = tenant.run("job", "list", "--deployments", str(file))
    assert shown.exit_code == 0, shown.output
    other = tenant.home / "elsewhere"
    other.mkdir(exist_ok=True)
    said = tenant.fails(Exit.INPUT, "job", "list", "--deployments", str(other), signs=False)
    assert "no deployment is known" in said and "--deployments" in said


def test_sender__two_commands_for_one_account__the_second_waits_for_nothing(
    tenant: Person,
) -> None:
    from teraproof.market import sending

    chain = chain_of(tenant.anvil)
    with sending.hold(chain, tenant.account):
        found: list[str] = []
        asked = ("tokens", "mint", "1")
        other = threading.Thread(
            target=lambda: found.append(tenant.fails(Exit.UNAVAILABLE, *asked))
        )
        other.start()
        other.join()
    assert "another command is sending transactions" in found[0]
    assert f"process {os.getpid()}" in found[0]
    tenant.json(*asked)


@pytest.mark.parametrize("group", ["dispute", "juror"])
def test_help__every_line_of_a_list_is_whole(group: str) -> None:
    """A sentence that ends in dots tells half of what a command does."""
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(main, [group, "--help"])
    listed = shown.output.partition("Commands:")[2].splitlines()
    assert shown.exit_code == 0 and len(listed) > 4
    assert [line for line in listed if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        (("dispute", "status"), False),
        (("juror", "seats"), False),
        (("juror", "status"), False),
        (("dispute", "claim"), True),
        (("job", "post"), True),
    ],
)
def test_help__only_what_sends_has_a_switch_not_to_be_asked(
    line: tuple[str, ...], asks: bool
) -> None:
    shown = CliRunner().invoke(main, [*line, "--help"])
    assert shown.exit_code == 0 and ("--yes" in shown.output) is asks
