# SPDX-License-Identifier: Apache-2.0
"""Receipts: one form, one digest, one signer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners import receipt as receipts
from provider_agent.runners.base import Limits, Phase, Reason, RunRequest, RunState, Usage
from teraproof.errors import LocalError
from teraproof.protocol.digests import Origin
from teraproof.protocol.receipt import Receipt

JOB = bytes(range(32))
ORIGIN = Origin(JOB, "0x" + "ab" * 20)
RUN = RunRequest(
    "run", ("a",), Limits(1, 1, 1, 1, 1, 1), devices=(Device("cpu", 0, "Chip", "", 1),)
)
STATE = RunState(
    *(Phase.EXITED, Reason.EXITED, 0, 100, 160, Usage(1500, 0, 4096, None)),
    sandbox=(("disk", "image"), ("walls", "bubblewrap")),
)
GOOD = receipts.of_run(ORIGIN, RUN, STATE)


def test_canonical__fixed_bytes() -> None:
    assert GOOD.canonical() == (
        b'{"cpu_ms":1500,"devices":["Chip"],"energy_mj":null,"exit_code":0,"finished":160,'
        b'"gpu_ms":0,"job":"0x' + JOB.hex().encode() + b'","peak_memory_bytes":4096,'
        b'"provider":"0x'
        + b"ab"
        * 20
        + b'","reason":"exited","sandbox":{"disk":"image","walls":"bubblewrap"},"started":100,'
        b'"version":3}'
    )
    assert GOOD.digest() == hashlib.sha256(GOOD.canonical()).digest()


def test_parse__canonical__round_trip() -> None:
    assert Receipt.parse(GOOD.canonical()) == GOOD


@pytest.mark.parametrize("missing", [("provider",), ("provider", "sandbox")])
def test_parse__earlier_version__without_what_came_later(missing: tuple[str, ...]) -> None:
    value = {**json.loads(GOOD.canonical()), "version": 3 - len(missing)}
    for name in missing:
        del value[name]
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    read = Receipt.parse(data)
    assert read.canonical() == data and not any(getattr(read, name) for name in missing)
    assert replace(read, reason="outputs").canonical() == data.replace(b'"exited"', b'"outputs"')


def test_of_run__clock_set_back__no_negative_time() -> None:
    assert receipts.of_run(ORIGIN, RUN, replace(STATE, finished=50)).finished == 100


@pytest.mark.parametrize(
    "state",
    [
        RunState(Phase.RUNNING, started=1),
        RunState(Phase.LOST, started=1),
        replace(STATE, reason=None),
    ],
)
def test_of_run__not_ended__refused(state: RunState) -> None:
    with pytest.raises(RunnerError, match="has not ended"):
        receipts.of_run(ORIGIN, RUN, state)


def test_of_run__ended_by_a_limit__says_so() -> None:
    made = receipts.of_run(ORIGIN, RUN, replace(STATE, reason=Reason.TIMEOUT, exit_code=None))
    assert (made.reason, made.exit_code) == ("timeout", None)
    assert Receipt.parse(made.canonical()) == made


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 4}, "version 4 is unknown"),
        ({"version": True}, "not of type int"),
        ({"cpu_ms": -1}, "outside"),
        ({"cpu_ms": 1 << 53}, "outside"),
        ({"cpu_ms": 1.5}, "not of type int"),
        ({"exit_code": True}, "not of type int"),
        ({"cpu_ms": None}, "not of type int"),
        ({"job": "0x12"}, "64 lower-case hex"),
        ({"job": "0x" + "g" * 64}, "64 lower-case hex"),
        ({"provider": "0x12"}, "40 lower-case hex"),
        ({"provider": "0x" + "A" * 40}, "40 lower-case hex"),
        ({"provider": ""}, "40 lower-case hex"),
        ({"job": "0x" + "A" * 64}, "lower-case"),
        ({"finished": 1}, "finishes before"),
        ({"devices": [1]}, "list of names"),
        ({"more": 1}, "has the fields"),
        ({"sandbox": "bubblewrap"}, "not of type dict"),
        ({"sandbox": {"walls": 1}}, "does not say in words"),
        ({"version": 1}, "has the fields"),
        ({"version": 2}, "has the fields"),
    ],
)
def test_parse__bad_field__refused(change: dict[str, object], reason: str) -> None:
    value = {**json.loads(GOOD.canonical()), **change}
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(LocalError, match=reason):
        Receipt.parse(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", GOOD.canonical() + b"\n"])
def test_parse__not_canonical__refused(data: bytes) -> None:
    with pytest.raises(LocalError):
        Receipt.parse(data)
