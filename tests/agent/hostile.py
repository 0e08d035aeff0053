# SPDX-License-Identifier: Apache-2.0
"""A job that means harm, in the real sandbox, and what must hold after it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from provider_agent.runners.base import Limits, RunState
from tests.support import runs

# Each attempt of a job is a function; what it returns, or the error's name, is printed as JSON.
ATTEMPTS = """
import json, sys
said = {}
def attempt(function):
    try:
        said[function.__name__] = function()
    except BaseException as error:
        said[function.__name__] = type(error).__name__ + ": " + str(error)
    return function
"""
TELL = "\nprint(json.dumps(said, default=repr))\n"


class Machine:
    """A runner with one hostile run at a time, and the checks that hold after each."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.runner = runs.make_runner(self.data)
        self.holds = self.runner.containment.holds
        self.directory = directory
        self.marker = f"HOSTILE_{os.getpid()}_{time.monotonic_ns()}"

    def need_limits(self) -> None:
        """Skips on a person's machine that can only watch; there strangers' work is refused."""
        if not self.holds:
            pytest.skip("this machine has no limits that hold")

    def execute(
        self, source: str, limits: Limits = runs.LIMITS, outputs: tuple[str, ...] = ()
    ) -> RunState:
        """Runs a program to its end."""
        run = runs.python_run(
            self.directory,
            "hostile",
            source,
            limits=limits,
            outputs=outputs,
            env={"MARKER": self.marker},
        )
        self.runner.start(run)
        return runs.wait(self.runner, "hostile")

    def attempts(self, source: str) -> dict[str, Any]:
        """What a program that ends well says of its attempts."""
        state = self.execute(ATTEMPTS + source + TELL)
        said = self.runner.log("hostile").read_text()
        assert state.succeeded, said
        answers: dict[str, Any] = json.loads(said)
        return answers
