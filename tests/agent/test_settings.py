# SPDX-License-Identifier: Apache-2.0
"""The settings file and its overrides."""

from __future__ import annotations

from pathlib import Path

import pytest
from eth_account import Account

from provider_agent.core.settings import Settings
from provider_agent.errors import SettingsError
from provider_agent.modules.jobs.settings import JobsSettings
from provider_agent.modules.proofs.settings import BenchmarkSettings
from provider_agent.settings import load

A = Account.from_key(b"\x01" * 32).address
B = Account.from_key(b"\x02" * 32).address
GOOD = f"""\
[chain]
rpc_urls = ["http://127.0.0.1:8545"]
chain_id = 31337
staking = "{A}"
jobs = "{B}"

[operator]
private_key_file = "keys/operator.key"
"""


def read(folder: Path, text: str = GOOD, **environment: str) -> Settings:
    file = folder / "provider.toml"
    file.write_text(text)
    return load(file, environment)


def refused(folder: Path, text: str = GOOD, **environment: str) -> str:
    with pytest.raises(SettingsError) as error:
        read(folder, text, **environment)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_load__default_behavior(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.chain.rpc_urls == ("http://127.0.0.1:8545",)
    assert settings.chain.confirmations == 2
    assert settings.agent.data_dir == tmp_path / "agent-data"
    assert settings.operator.private_key_file == tmp_path / "keys" / "operator.key"
    assert settings.operator.keystore is None
    assert settings.runner.sandbox == "bubblewrap"


def test_load__trusted_proxies__addresses_and_networks(tmp_path: Path) -> None:
    assert read(tmp_path).api.trusted_proxies == ()
    settings = read(tmp_path, TERAPROOF_API__TRUSTED_PROXIES="10.0.0.1, 192.0.2.0/24")
    assert settings.api.trusted_proxies == ("10.0.0.1/32", "192.0.2.0/24")
    for bad in ("*", "proxy.example", "10.0.0.1/8"):
        line = refused(tmp_path, TERAPROOF_API__TRUSTED_PROXIES=bad)
        assert "api.trusted_proxies" in line


def test_load__addresses_get_their_checksum(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace(A, A.lower())).chain.staking == A


def test_load__environment_wins(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        TERAPROOF_API__PORT="8800",
        TERAPROOF_CHAIN__RPC_URLS="http://a:1, http://b:2",
        TERAPROOF_RUNNER__RUNTIMES='{"python-ml": "env"}',
        TERAPROOF_JOBS__PRICE_PER_HOUR="2.5",
        OTHER="ignored",
        TERAPROOF_HOME="ignored: it names no field",
    )
    assert settings.api.port == 8800
    assert settings.chain.rpc_urls == ("http://a:1", "http://b:2")
    assert settings.runner.runtimes == {"python-ml": tmp_path / "env"}
    assert str(settings.section(JobsSettings).price_per_hour) == "2.5"


def test_load__list_from_the_environment_as_json(tmp_path: Path) -> None:
    settings = read(tmp_path, TERAPROOF_CHAIN__RPC_URLS='["http://a:1"]')
    assert settings.chain.rpc_urls == ("http://a:1",)


def test_load__absolute_paths_stay(tmp_path: Path) -> None:
    settings = read(tmp_path, GOOD + '[agent]\ndata_dir = "/var/lib/teraproof"\n')
    assert settings.agent.data_dir == Path("/var/lib/teraproof")


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("31337", "0", "chain.chain_id"),
        ("31337", '"many"', "chain.chain_id"),
        (A, "0x1234", "chain.staking"),
        ('["http://127.0.0.1:8545"]', "[]", "chain.rpc_urls"),
        ("http://127.0.0.1:8545", "ws://127.0.0.1:8545", "chain.rpc_urls"),
        ("chain_id = 31337", "chain_id = 31337\nchain_ids = 1", "chain.chain_ids"),
        ("chain_id = 31337\n", "", "chain.chain_id"),
        ("[operator]", "[api]\nport = 70000\n[operator]", "api.port"),
        ("[operator]", "[api]\npublic_url = 'ftp://x'\n[operator]", "api.public_url"),
        ("[operator]", "[jobs]\nprice_per_hour = '-1'\n[operator]", "jobs.price_per_hour"),
        ("[operator]", "[runner]\nsandbox = 'docker'\n[operator]", "runner.sandbox"),
        ("[operator]", "[agent]\nslots = 0\n[operator]", "agent.slots"),
        ("[operator]", "[nonsense]\n[operator]", "nonsense"),
        ("chain_id", "confirmations = 9\nreorg_window = 8\nchain_id", "chain"),
    ],
)
def test_load__bad_value__names_the_field(tmp_path: Path, old: str, new: str, field: str) -> None:
    assert field in refused(tmp_path, GOOD.replace(old, new))


def test_load__several_bad_values__all_in_one_line(tmp_path: Path) -> None:
    text = GOOD.replace("31337", "0").replace("[operator]", "[api]\nport = 70000\n[operator]")
    line = refused(tmp_path, text + "[nonsense]\n")
    assert [fault.partition(":")[0] for fault in line.partition(": ")[2].split("; ", 2)[:2]] == [
        "chain.chain_id",
        "api.port",
    ]
    assert line.endswith("; nonsense: unknown setting; remove it")
    many = refused(tmp_path, GOOD + "".join(f"x{n} = 1\n" for n in range(7)))
    assert many.count("unknown setting") == 5
    assert many.endswith("; and 2 more")


def test_load__no_operator_section(tmp_path: Path) -> None:
    assert "operator" in refused(tmp_path, GOOD.split("[operator]")[0])


def test_load__unknown_variable(tmp_path: Path) -> None:
    assert "there is no setting api.prot" in refused(tmp_path, TERAPROOF_API__PROT="1")
    assert "there is no setting apis.port" in refused(tmp_path, TERAPROOF_APIS__PORT="1")


@pytest.mark.parametrize("value", ["{", "[", '["http://a:1"'])
def test_load__broken_json_in_a_variable(tmp_path: Path, value: str) -> None:
    assert "runner.runtimes" in refused(tmp_path, TERAPROOF_RUNNER__RUNTIMES=value)


def test_load__section_is_no_table(tmp_path: Path) -> None:
    assert "api" in refused(tmp_path, "api = 3\n" + GOOD, TERAPROOF_API__PORT="1")


def test_load__file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="provider-agent init"):
        load(tmp_path / "none.toml", {})
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path / "bytes.toml", {})
    assert "is not TOML" in refused(tmp_path, "[chain")


def test_load__proofs_and_rewards(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.chain.benchmark is None and settings.chain.emissions is None
    places = {"TERAPROOF_CHAIN__BENCHMARK": A, "TERAPROOF_CHAIN__EMISSIONS": B}
    settings = read(tmp_path, **places, TERAPROOF_BENCHMARK__DEVICE="cuda:0,1")
    proofs = settings.section(BenchmarkSettings)
    assert settings.chain.benchmark == A and proofs.device == "cuda:0,1"
    assert proofs.enabled and not proofs.with_jobs
    line = refused(tmp_path, TERAPROOF_CHAIN__EMISSIONS=B)
    assert "emissions needs benchmark" in line
    for name, bad in (
        ("LAST_COMMITS", "0"),
        ("OPENINGS_PER_TRANSACTION", "9"),
        ("MIN_ROUNDS", "0"),
        ("DEVICE", "gpu"),
    ):
        assert f"benchmark.{name.lower()}" in refused(
            tmp_path, **places, **{f"TERAPROOF_BENCHMARK__{name}": bad}
        )
