# SPDX-License-Identifier: Apache-2.0
"""What `make lint` and `make size` ask of the contracts, besides the compiler."""

from __future__ import annotations

from pathlib import Path

import boa
import pytest

from tools import contracts

GUARDED = """# pragma version 0.4.3
# pragma nonreentrancy on

@external
def f(): pass
"""
OPEN = GUARDED.replace("# pragma nonreentrancy on\n", "")
OFF = GUARDED.replace("nonreentrancy on", "nonreentrancy off")
INTERNAL = OPEN.replace("@external", "@internal")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """An empty folder of contracts."""
    (tmp_path / "contracts" / "staking").mkdir(parents=True)
    (tmp_path / "contracts" / "mocks").mkdir()
    return tmp_path / "contracts"


@pytest.mark.parametrize("text", [OPEN, OFF, OPEN + "# see `# pragma nonreentrancy on`\n"])
@pytest.mark.parametrize("name", ["Deployable.vy", "staking/module.vy"])
def test_unguarded__external_functions_without_the_pragma(
    sources: Path, name: str, text: str
) -> None:
    (sources / name).write_text(text)
    assert contracts.unguarded(sources) == [
        f"contracts/{name}: external functions without `# pragma nonreentrancy on`"
    ]


@pytest.mark.parametrize("text", [GUARDED, INTERNAL])
def test_unguarded__nothing_to_say(sources: Path, text: str) -> None:
    (sources / "staking" / "module.vy").write_text(text)
    (sources / "mocks" / "Mock.vy").write_text(OPEN)
    assert contracts.unguarded(sources) == []


def test_unguarded__the_contracts_as_they_are() -> None:
    assert contracts.unguarded(contracts.CONTRACTS) == []


def test_check__names_the_unguarded(
    monkeypatch: pytest.MonkeyPatch, sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sources / "staking" / "module.vy").write_text(OPEN)
    monkeypatch.setattr(contracts, "CONTRACTS", sources)
    assert contracts.main(["check"]) == 1
    assert "contracts/staking/module.vy: external functions" in capsys.readouterr().err


def test_immutable_bytes__those_of_modules_too() -> None:
    layout = {
        "OWN": {"type": "uint256", "length": 32, "offset": 0},
        "module": {"NAME": {"type": "String[50]", "length": 96, "offset": 32}},
    }
    assert contracts.immutable_bytes(layout) == 128
    assert contracts.immutable_bytes({}) == contracts.immutable_bytes(None) == 0


def test_size__what_lies_on_the_chain() -> None:
    """The compiler's runtime code alone would say that a contract fits which does not."""
    path = contracts.CONTRACTS / "Token.vy"
    compiled = contracts.compile_contract(path, "bytecode_runtime", "layout")
    account = boa.env.generate_address()
    deployed = boa.load(str(path), account, 10, 1, account)
    size = (len(compiled["bytecode_runtime"]) - 2) // 2
    immutables = contracts.immutable_bytes(compiled["layout"].get("code_layout"))
    assert immutables > 0
    assert len(boa.env.get_code(deployed.address)) == size + immutables
