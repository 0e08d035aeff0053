# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal with `teraproof`, an account and a node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from teraproof.cli.main import main
from teraproof.protocol.errors import Exit
from tests.support.anvil import ROOT, Anvil

USD, TPF = 10**6, 10**18
PASSWORD = "correct horse"
EXAMPLE = str(ROOT / "examples" / "finetune-digits")


@dataclass
class Person:
    """Runs `teraproof` with an account of its own."""

    home: Path
    anvil: Anvil
    account: str
    key: tuple[str, ...]

    def run(self, *line: str, network: bool = True) -> Result:
        environment = {
            "TERAPROOF_RPC_URL": self.anvil.url if network else None,
            "TERAPROOF_DEPLOYMENTS": str(self.home / "deployments"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }
        return CliRunner(env=environment).invoke(main, line, catch_exceptions=False)

    def json(self, *line: str, signs: bool = True) -> Any:
        """The document of a command that succeeds."""
        shown = self.run(*line, *(self.key if signs else ()), "--json")
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.output)

    def fails(self, kind: Exit, *line: str, signs: bool = True) -> str:
        """The one line of a command that fails."""
        shown = self.run(*line, *(self.key if signs else ()))
        assert shown.exit_code == kind, shown.output
        (said,) = [text for text in shown.output.splitlines() if text.startswith("error: ")]
        return said


def secret(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path
