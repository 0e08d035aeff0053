# SPDX-License-Identifier: Apache-2.0
"""The command line: what it makes, what it says, and its one-line errors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from eth_account import Account

from provider_agent.app import DATABASE
from provider_agent.cli import main as cli
from provider_agent.core.pay import Pay
from provider_agent.modules.all import open_store
from provider_agent.modules.disputes.repository import DisputesRepository
from provider_agent.modules.disputes.settings import DisputesSettings
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.jobs.repository import JobsRepository
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.jobs.status import NAME
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.proofs import duty as benchmark
from provider_agent.modules.proofs.epochs import ProofReport
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.modules.rewards import duty as rewards
from provider_agent.runners import containment
from provider_agent.settings import EVERYTHING, load
from provider_agent.store import IntentKey
from provider_agent.tx.keys import KeyLock
from teraproof import keyfiles
from teraproof.protocol import messages
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Exit
from teraproof.protocol.terms import ZERO_ADDRESS, Status
from tests.agent.duty_rig import Rig
from tests.support import keystores

A = Account.from_key(b"\x01" * 32).address
B = Account.from_key(b"\x02" * 32).address


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def failed(*arguments: str | Path, kind: Exit = Exit.INPUT) -> str:
    """The one line of a command that must fail, with this exit code."""
    result = call(*arguments)
    assert result.exit_code == kind, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module", autouse=True)
def weak_keystores() -> Iterator[None]:
    with keystores.weak():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings and key as `init` makes them; to be copied."""
    file = tmp_path_factory.mktemp("init") / "provider.toml"
    done = call(
        "init", "--config", file, "--rpc-url", "http://127.0.0.1:1", "--chain-id", "31337",
        "--staking", A, "--jobs", B.lower(),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return file


@pytest.fixture
def config(made: Path, tmp_path: Path) -> Path:
    """A copy of one's own."""
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / made.name


def test_init__default_behavior(config: Path) -> None:
    settings = load(config, {})
    assert (settings.chain.staking, settings.chain.jobs) == (A, B)
    assert settings.api.public_url == "http://127.0.0.1:8700"
    for name in ("operator.json", "operator.password"):
        assert (config.parent / name).stat().st_mode & 0o077 == 0


def test_init__from_a_deployment(tmp_path: Path) -> None:
    record = tmp_path / "5.json"
    record.write_text(
        json.dumps(
            {
                "chain_id": 5,
                "contracts": {"Staking": {"address": A}, "Jobs": {"address": B, "block": 77}},
            }
        )
    )
    file = tmp_path / "provider.toml"
    result = call("init", "--config", file, "--rpc-url", "http://n:1", "--deployment", record)
    assert result.exit_code == 0, result.output
    chain = load(file, {}).chain
    assert (chain.chain_id, chain.staking, chain.jobs, chain.start_block) == (5, A, B, 77)
    assert chain.benchmark is None and chain.emissions is None


def test_init__from_a_deployment_with_proofs(tmp_path: Path) -> None:
    record = tmp_path / "5.json"
    contracts = {
        "Staking": {"address": A},
        "Benchmark": {"address": B, "block": 70},
        "Emissions": {"address": A, "block": 71},
        "Jobs": {"address": B, "block": 77},
    }
    record.write_text(json.dumps({"chain_id": 5, "contracts": contracts}))
    file = tmp_path / "provider.toml"
    result = call("init", "--config", file, "--rpc-url", "http://n:1", "--deployment", record)
    assert result.exit_code == 0, result.output
    chain = load(file, {}).chain
    assert (chain.benchmark, chain.emissions, chain.start_block) == (B, A, 70)


def test_init__proofs_by_their_addresses(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "other" / "provider.toml"
    file.parent.mkdir()
    result = call(
        "init", "--config", file, "--rpc-url", "http://127.0.0.1:1", "--chain-id", "31337",
        "--staking", A, "--jobs", B, "--benchmark", B, "--emissions", A,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert load(file, {}).chain.emissions == A
    assert load(config, {}).section(BenchmarkSettings).device == "cpu"


def test_init__what_jurors_need_is_there_to_be_uncommented(config: Path) -> None:
    text = config.read_text()
    for line in ("# accept_judged", "# [disputes]", "# seats"):
        assert f"\n{line}" in text
        text = text.replace(line, line.removeprefix("# "))
    config.write_text(text)
    settings = load(config, {})
    assert settings.section(DisputesSettings).seats == {"finetune|python-ml|cpu": 2}
    assert settings.section(JobsSettings).accept_judged == ()


def test_init__what_sellers_of_models_and_leases_need_is_there_to_be_uncommented(
    config: Path,
) -> None:
    head, _, rest = config.read_text().partition("# [leases]")
    sections, blank, proofs = rest.partition("\n[benchmark]")
    plain = re.sub(r"^# ", "", "# [leases]" + sections, flags=re.M)
    config.write_text(head + plain + blank + proofs)
    settings = load(config, {})
    (name, model), *others = settings.section(InferenceSettings).models.items()
    assert (name, others) == ("tiny-1b", [])
    assert (model.prompt_price, model.completion_price) == (Decimal("0.10"), Decimal("0.40"))
    assert settings.section(LeasesSettings).outbound


@pytest.mark.parametrize("columns", ["80", "200"])
def test_status__seats_and_disputes__readable_at_any_width(
    config: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(config, {}).agent.data_dir
    data.mkdir()
    store, job = open_store(data / DATABASE), bytes(range(32))
    case = Case(job, A, B, B, ZERO_ADDRESS, bytes(32), b"\5" * 32, 10, 600)
    note = f"lost: let the owner run `teraproof dispute appeal 0x{job.hex()}`"
    DisputesRepository(store).put(job, case=case)
    DisputesRepository(store).note(job, note)
    store.set_meta("juror.held", '{"batch|python-ml|cpu": 1, "finetune|python-ml|cpu": 9}')
    store.close()
    monkeypatch.setenv("COLUMNS", columns)
    shown = call("status", "--config", config).output.splitlines()
    assert "Juror: 1 seat for batch|python-ml|cpu" in shown
    assert "Juror: 9 seats for finetune|python-ml|cpu" in shown
    (row,) = [line for line in shown if A in line]
    assert "0x000102030405" in row and len(row) <= 80
    assert f"0x000102030405: {note}" in shown


def test_status__proof_and_rewards(config: Path) -> None:
    data = load(config, {}).agent.data_dir
    data.mkdir()
    store = open_store(data / DATABASE)
    report = ProofReport(
        "cuda", 12, "window", 40, 30, 0, 8, 15 * 10**14, 2 * 10**15, note="proving", paused=False
    )
    store.set_meta(benchmark.REPORT, report.to_text())
    store.set_meta(rewards.UNCLAIMED, str(25 * 10**17))
    store.close()
    said = call("status", "--config", config).output
    assert "Proof: epoch 12, window: proving (cuda)" in said
    assert "40 done, 30 committed, 0 of 8 samples verified" in said
    assert "Score: 1,500 TOPS backed by stake, of 2,000 TOPS proven" in said
    assert "Rewards: 2.5 TPF to claim" in said


@pytest.mark.parametrize("text", ["{", "{}", '{"chain_id": 5, "contracts": {}}', "[]"])
def test_init__deployment_is_unfinished(tmp_path: Path, text: str) -> None:
    record = tmp_path / "5.json"
    record.write_text(text)
    file = tmp_path / "provider.toml"
    said = failed("init", "--config", file, "--rpc-url", "http://n:1", "--deployment", record)
    assert "not the record of a finished deployment" in said
    assert not file.exists()


def test_init__twice__keeps_settings_and_key(config: Path) -> None:
    before = [path.read_bytes() for path in sorted(config.parent.iterdir())]
    said = failed("init", "--config", config, "--rpc-url", "http://n:1", "--chain-id", "1",
                  "--staking", A, "--jobs", B)  # fmt: skip
    assert "exists already" in said
    assert [path.read_bytes() for path in sorted(config.parent.iterdir())] == before


def test_init__says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    assert "--deployment" in failed("init", "--config", file, "--rpc-url", "http://n:1")


@pytest.mark.parametrize(
    "bad",
    [
        ("--rpc-url", "ws://n:1"),
        ("--port", "70000"),
        ("--chain-id", "0"),
        ("--public-url", "ftp://x"),
    ],
)
def test_init__bad_value__leaves_nothing_behind(tmp_path: Path, bad: tuple[str, str]) -> None:
    file = tmp_path / "provider.toml"
    options = {"--rpc-url": "http://n:1", "--chain-id": "5", "--staking": A, "--jobs": B}
    options[bad[0]] = bad[1]
    failed("init", "--config", file, *(part for item in options.items() for part in item))
    assert list(tmp_path.iterdir()) == []


def test_consent__is_signed_by_the_operator_for_the_owner(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "consent.json"
    result = call("consent", "--config", config, "--owner", A, "--nonce", "3", "--output", output)
    assert result.exit_code == 0, result.output
    signed = json.loads(output.read_text())
    consent = messages.OperatorConsent(A, signed["operator"], 3, signed["expires"])
    domain = messages.Domain(31337, A)
    signature = bytes.fromhex(signed["signature"][2:])
    assert messages.recover(domain, consent, signature) == signed["operator"]
    again = call("consent", "--config", config, "--owner", A, "--nonce", "0")
    assert json.loads(again.stdout)["owner"] == A


def test_consent__node_is_down__one_line(config: Path) -> None:
    """Its nonce is the chain's."""
    failed("consent", "--config", config, "--owner", A, kind=Exit.UNAVAILABLE)


def test_consent__bad_owner(config: Path) -> None:
    assert "--owner" in failed("consent", "--config", config, "--owner", "0x12")


def test_consent__output_cannot_be_written(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "no" / "x"
    said = failed("consent", "--config", config, "--owner", A, "--nonce", "0", "--output", output)
    assert "cannot write" in said


def test_check__node_is_down__one_line_a_check(config: Path) -> None:
    result = call("check", "--config", config)
    assert result.exit_code == 1
    lines = (result.stdout + result.stderr).splitlines()
    assert len(lines) == 15
    by_name = {line.split()[1]: line.split()[0] for line in lines}
    assert by_name["data"] == by_name["key"] == by_name["database"] == "ok"
    assert by_name["rpc"] == "FAIL"
    assert by_name["contracts"] == by_name["provider"] == by_name["market"] == "SKIP"


def test_run__failed_check__does_not_start(config: Path) -> None:
    result = call("run", "--config", config)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: a start-up check failed; see above"


def test_run__second_agent__refused_before_anything_is_checked(config: Path) -> None:
    settings = load(config, {})
    address = keyfiles.address_of(config.parent / "operator.json")
    assert address is not None
    with KeyLock(settings.chain.chain_id, address, settings.agent.lock_dir):
        line = failed("run", "--config", config, kind=Exit.FAULT)  # the one line: no check before
    assert f"another agent on this machine uses the key {address}" in line
    shown = call("run", "--config", config)
    assert "FAIL rpc" in shown.output  # with the lock free, it comes to the checks


def test_run__no_settings(tmp_path: Path) -> None:
    assert "provider-agent init" in failed("run", "--config", tmp_path / "none.toml")


def test_status__before_the_first_run(config: Path) -> None:
    assert "has not run yet" in failed("status", "--config", config)


def test_status__jobs_and_transactions(config: Path, tmp_path: Path) -> None:
    data = config.parent / "agent-data"
    data.mkdir()
    rig = Rig(data)
    rig.store.close()
    (data / "agent.sqlite").rename(data / DATABASE)
    rig.store = open_store(data / DATABASE)
    rig.restart()
    terms = rig.post(rig.spec())
    rig.assign(terms)
    rig.cycle()
    rig.store.add_intent(IntentKey("jobs", terms.job_id().hex(), "accept"), A, b"")
    rig.duty.close()
    result = call("status", "--config", config)
    assert result.exit_code == 0, result.output
    assert "assigned" in result.output
    assert "Transactions: 1 planned" in result.output


@pytest.mark.parametrize("columns", ["30", "60", "80", "200"])
def test_status__ids_have_one_length_and_pay_is_in_tokens(
    config: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config.parent / "agent-data"
    data.mkdir()
    store = open_store(data / DATABASE)
    job = bytes(range(32))
    JobsRepository(store).add_job(job, b"", A, bytes(32), Status.OPEN)
    JobsRepository(store).update_job(job, price=2_500_000, note="[bold]x[/]")
    monkeypatch.setenv("COLUMNS", columns)
    shown = call("status", "--config", config).output
    assert "0x000102030405" in shown
    assert columns != "200" or ("2500000" in shown and "[bold]x[/]" in shown)
    Pay(6, "tUSD").keep(store, NAME)
    store.close()
    shown = call("status", "--config", config).output
    assert columns != "200" or "2.5 tUSD" in shown


def test_version() -> None:
    assert call("--version").output.startswith("provider-agent, version ")


@pytest.mark.parametrize("name", cli.LATER)
def test_help__words_of_a_command_that_is_loaded_later(name: str) -> None:
    later = cli.LATER[name]
    assert getattr(import_module(later.module), name).get_short_help_str(limit=80) == later.help
    assert later.help in " ".join(call("--help").output.split())


def test_settings__every_field_with_its_variable_and_its_meaning() -> None:
    rows = json.loads(call("settings", "--json").output)
    names = [
        f"{section}.{field}"
        for section, info in EVERYTHING.model_fields.items()
        for field in info.annotation.model_fields  # type: ignore[union-attr]  # sections are models
    ]
    found = [row["name"] for row in rows]
    assert [name for name in found if name.count(".") == 1] == names
    assert "inference.models.NAME.upstream" in found  # of a table of tables
    said = call("settings").output
    for row in rows:
        assert row["variable"] in said and row["meaning"]
    assert "agent.slots = 1" not in said and "slots = 1" in said


def test_settings__part_of_a_name__those_alone() -> None:
    said = call("settings", "poll", "api.").output
    assert "poll_seconds = 2.0" in said and "port = 8700" in said
    assert "keystore" not in said and "[jobs]" not in said


def test_settings__no_such_name__one_line() -> None:
    assert "run the command without names" in failed("settings", "colour")


def test_settings__a_variable_that_it_names__is_read(config: Path) -> None:
    (row,) = json.loads(call("settings", "--json", "agent.slots").output)
    assert load(config, {row["variable"]: "3"}).agent.slots == 3


def test_sandbox__says_what_a_run_would_get() -> None:
    said = json.loads(call("sandbox", "--json").stdout)
    found = containment.of_this_machine(said["walls"])
    assert {name: said[name] for name in ("walls", "memory", "disk")} == found.to_json()
    # What an owner would have to write to go without: nothing where limits hold.
    assert (said["accept"] == "") is said["holds"] is found.holds
    assert call("sandbox").stdout.startswith(str(found))
