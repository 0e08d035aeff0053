# SPDX-License-Identifier: Apache-2.0
"""Results appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.modules.jobs.results import Results
from provider_agent.runners import receipt as receipts
from provider_agent.runners.base import Limits, Phase, Reason, RunRequest, RunState
from teraproof.errors import LocalError
from teraproof.protocol.digests import Origin, manifest
from teraproof.protocol.receipt import Receipt

JOB = b"\x05" * 32
PROVIDER = "0x" + "0e" * 20
GOOD = RunState(Phase.EXITED, Reason.EXITED, 0, 10, 20)
BAD = RunState(Phase.EXITED, Reason.TIMEOUT, None, 10, 20)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    place = tmp_path / "outputs"
    (place / "out").mkdir(parents=True)
    (place / "out" / "answer").write_text("42")
    return place


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("done\n")
    return path


def hashed(seal: bytes, times: int) -> bytes:
    """sha256 over sha256."""
    for _ in range(times):
        seal = hashlib.sha256(seal).digest()
    return seal


def sealed(listed: bytes, job: bytes = JOB, provider: str = PROVIDER) -> bytes:
    """The seal of a result: of its job, its provider and its manifest."""
    whose = bytes(12) + bytes.fromhex(provider[2:])
    named = b"teraproof result 3" + job + whose + hashlib.sha256(listed).digest()
    return hashlib.sha256(named).digest()


def receipt_of(state: RunState = GOOD, job: bytes = JOB, provider: str = PROVIDER) -> Receipt:
    """The receipt of a run."""
    run = RunRequest("run", ("a",), Limits(1, 1, 1, 1, 1, 1))
    return receipts.of_run(Origin(job, provider), run, state)


def test_keep__default_behavior(tmp_path: Path, outputs: Path, log: Path) -> None:
    results = Results(tmp_path / "results")
    receipt = receipt_of().canonical()
    kept = results.keep(JOB, GOOD, outputs, log, receipt)
    assert kept == results.get(JOB)
    assert (kept.files / "out" / "answer").read_text() == "42"
    assert kept.manifest == manifest(outputs)
    assert kept.seal == sealed(manifest(outputs))
    assert kept.result_digest == hashed(kept.seal, 3)
    assert kept.receipt_digest == hashlib.sha256(receipt).digest()
    assert kept.log.read_text() == "done\n"


def test_keep__outlives_the_run(tmp_path: Path, outputs: Path, log: Path) -> None:
    kept = Results(tmp_path / "results").keep(JOB, GOOD, outputs, log, b"receipt")
    shutil.rmtree(outputs)
    log.unlink()
    assert (kept.files / "out" / "answer").read_text() == "42"
    assert kept.log.read_text() == "done\n"


def test_keep__job_failed(tmp_path: Path, log: Path) -> None:
    kept = Results(tmp_path / "results").keep(JOB, BAD, None, log, b"receipt")
    assert [path.name for path in kept.files.iterdir()] == ["failure.json"]
    failure = json.loads((kept.files / "failure.json").read_text())
    assert failure == {"exit_code": None, "reason": "timeout"}


def test_keep__second_call_changes_nothing(tmp_path: Path, outputs: Path, log: Path) -> None:
    results = Results(tmp_path / "results")
    first = results.keep(JOB, GOOD, outputs, log, b"receipt")
    assert results.keep(JOB, BAD, None, log, b"another") == first


def test_keep__no_log(tmp_path: Path, outputs: Path) -> None:
    kept = Results(tmp_path / "results").keep(JOB, GOOD, outputs, tmp_path / "none", b"")
    assert not kept.log.exists()


def test_keep__what_a_crash_left_is_thrown_away(tmp_path: Path, outputs: Path, log: Path) -> None:
    results = Results(tmp_path / "results")
    half = tmp_path / "results" / (JOB.hex() + ".new")
    (half / "files" / "out").mkdir(parents=True)
    (half / "files" / "stray").write_text("?")
    assert results.get(JOB) is None
    kept = results.keep(JOB, GOOD, outputs, log, b"receipt")
    assert kept.manifest == manifest(outputs)
    assert not half.exists()


def test_keep__killed_at_any_step__whole_or_absent(
    tmp_path: Path, outputs: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """The process ends here."""

    results = Results(tmp_path / "results")
    original = os.fsync
    synced = 0

    def die_at(number: int) -> None:
        def fsync(handle: int) -> None:
            nonlocal synced
            synced += 1
            if synced == number:
                raise Killed
            original(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    for number in range(1, 50):
        synced = 0
        die_at(number)
        try:
            results.keep(JOB, GOOD, outputs, log, b"receipt")
        except Killed:
            found = results.get(JOB)
            assert found is None or found.manifest == manifest(found.files)
            results.remove(JOB)
            continue
        break
    else:
        raise AssertionError("keep never ended")
    assert number > 4


def test_keep__disk_is_unwritable(tmp_path: Path, log: Path) -> None:
    results = Results(tmp_path / "results")
    with pytest.raises(RunnerError, match="cannot be kept"):
        results.keep(JOB, GOOD, tmp_path / "not there", log, b"receipt")
    assert results.get(JOB) is None


def test_remove__twice(tmp_path: Path, outputs: Path, log: Path) -> None:
    results = Results(tmp_path / "results")
    results.keep(JOB, GOOD, outputs, log, b"receipt")
    results.remove(JOB)
    results.remove(JOB)
    assert results.get(JOB) is None


def test_result_digest__sealed_by_a_hash_of_its_own(
    tmp_path: Path, outputs: Path, log: Path
) -> None:
    """What is on the chain shows neither the manifest nor its sha256, and each gives it."""
    kept = Results(tmp_path / "results").keep(JOB, GOOD, outputs, log, receipt_of().canonical())
    assert kept.result_digest == hashed(sealed(kept.manifest), 3)
    assert kept.result_digest not in [hashed(kept.manifest, times) for times in range(6)]


def test_result_digest__same_outputs__whatever_was_printed_used_or_read_from_a_clock(
    tmp_path: Path, outputs: Path, log: Path
) -> None:
    """Two machines of a provider that make the same bytes of a job attest the same result."""
    first = Results(tmp_path / "first").keep(JOB, GOOD, outputs, log, receipt_of().canonical())
    other = tmp_path / "other"
    shutil.copytree(outputs, other)
    (other / "out" / "answer").chmod(0o400)
    os.utime(other / "out" / "answer", (1, 1))
    (other / "out" / "nothing").mkdir()
    log.write_text("took 17.3 seconds on another card\n")
    late = replace(GOOD, started=1_000, finished=2_000, detail="elsewhere")
    second = Results(tmp_path / "second").keep(JOB, late, other, log, receipt_of(late).canonical())
    assert second.result_digest == first.result_digest
    assert second.receipt_digest != first.receipt_digest


@pytest.mark.parametrize(
    ("job", "provider"),
    [(b"\x09" * 32, PROVIDER), (JOB, "0x" + "0f" * 20)],
    ids=["job", "provider"],
)
def test_result_digest__same_bytes_for_another_job_or_by_another__another_digest(
    tmp_path: Path, outputs: Path, log: Path, job: bytes, provider: str
) -> None:
    """What the chain or a court shows of one job is worth nothing for another of the same bytes."""
    first = Results(tmp_path / "first").keep(JOB, GOOD, outputs, log, receipt_of().canonical())
    receipt = receipt_of(job=job, provider=provider).canonical()
    second = Results(tmp_path / "second").keep(job, GOOD, outputs, log, receipt)
    assert second.manifest == first.manifest
    shown = {hashed(first.seal, times) for times in range(4)}
    assert shown.isdisjoint({hashed(second.seal, times) for times in range(4)})


def test_result_digest__receipt_that_is_none__attested_by_nobody(
    tmp_path: Path, outputs: Path, log: Path
) -> None:
    kept = Results(tmp_path / "results").keep(JOB, GOOD, outputs, log, b"receipt")
    with pytest.raises(LocalError, match="not JSON"):
        _ = kept.result_digest


def test_result_digest__same_failure__same_result(tmp_path: Path, log: Path) -> None:
    first = Results(tmp_path / "first").keep(JOB, BAD, None, log, receipt_of(BAD).canonical())
    late = replace(BAD, started=5, finished=9, detail="another machine's words")
    receipt = receipt_of(late).canonical()
    second = Results(tmp_path / "second").keep(JOB, late, None, tmp_path / "none", receipt)
    assert second.result_digest == first.result_digest


@pytest.mark.parametrize(("version", "times"), [(1, 0), (2, 3)])
def test_result_digest__kept_by_an_earlier_agent__as_it_was_attested(
    tmp_path: Path, outputs: Path, log: Path, version: int, times: int
) -> None:
    """The first ones did not seal; the next ones sealed the same for every job."""
    now = receipt_of()
    kept = Results(tmp_path / "results").keep(JOB, GOOD, outputs, log, now.canonical())
    (kept.directory / "receipt").write_bytes(replace(now, version=version).canonical())
    older = Results(tmp_path / "results").get(JOB)
    assert older is not None
    assert older.result_digest == hashed(hashlib.sha256(kept.manifest).digest(), times)
