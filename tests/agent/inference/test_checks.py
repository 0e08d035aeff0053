# SPDX-License-Identifier: Apache-2.0
"""`provider-agent check` of the owner's model servers and of our port: no chain is needed."""

from __future__ import annotations

import logging
import socket

import pytest

from provider_agent.core.trial import Finding, Mark, finding
from provider_agent.modules.inference.checks import ServerChecks
from provider_agent.modules.inference.settings import InferenceSettings, ModelSettings
from tests.support.model_server import running


def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


def found(port: int = 0, **upstreams: str) -> dict[str, Finding]:
    models = {
        name: ModelSettings(upstream=url, prompt_price="1")  # type: ignore[arg-type]
        for name, url in upstreams.items()
    }
    wanted = InferenceSettings(host="127.0.0.1", port=port, models=models)
    return {name: finding(name, check) for name, check in ServerChecks(wanted).all()}


def test_server_that_answers__is_named() -> None:
    with running() as server:
        seen = found(tiny=server.url, small=server.url)
    assert (seen["models"].mark, seen["models"].line) == (Mark.OK, "answers come for small, tiny")


def test_server_that_is_away__is_a_warning_that_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), running() as server:
        seen = found(tiny=server.url, gone=nobody())["models"]
    assert seen.mark is Mark.WARN
    assert seen.line == ("model gone: no answer; start the server, or correct the model's upstream")
    assert not caplog.records, "it is said once"


def test_port_that_is_taken__is_a_warning_that_names_the_setting() -> None:
    assert found(tiny=nobody())["paid requests"].mark is Mark.OK
    with socket.create_server(("127.0.0.1", 0)) as door:
        seen = found(door.getsockname()[1], tiny=nobody())["paid requests"]
    assert seen.mark is Mark.WARN
    assert "change inference.port or stop the other program" in seen.line
