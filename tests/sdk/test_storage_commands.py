# SPDX-License-Identifier: Apache-2.0
"""`teraproof storage` and `teraproof checkpoint`: files by URI; no boto3 and no chain."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from teraproof.cli.main import main
from teraproof.protocol.errors import Exit

DATA = b"some bytes" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def document(result: Result, kind: Exit = Exit.OK) -> Any:
    assert result.exit_code == kind, result.output
    return json.loads(result.output[result.output.index("{") :])


def failed(result: Result, code: str, kind: Exit) -> str:
    found = document(result, kind)["error"]
    assert found["code"] == code, found
    assert "\n" not in found["message"]
    return str(found["message"])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))


def test_put_and_get__named_by_what_put_shows(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    uri = f"file://{tmp_path}/store/object"
    sent = document(run("storage", "put", tmp_path / "file", uri, "--json"))
    assert sent == {"uri": uri, "sha256": SHA256, "size": len(DATA)}
    named = ("--sha256", SHA256, "--size", len(DATA), "--json")
    document(run("storage", "get", uri, tmp_path / "got", *named))
    assert (tmp_path / "got").read_bytes() == DATA
    document(run("storage", "get", uri, tmp_path / "got", *named))
    (tmp_path / "other").write_bytes(b"mine")
    failed(run("storage", "get", uri, tmp_path / "other", *named), "input_invalid", Exit.INPUT)
    assert (tmp_path / "other").read_bytes() == b"mine"


def test_get__wrong_bytes_or_none__nothing_appears(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[::-1])
    named = ("--sha256", SHA256, "--size", len(DATA), "--json")
    uri = f"file://{tmp_path}/file"
    failed(run("storage", "get", uri, tmp_path / "got", *named), "digest_mismatch", Exit.FAULT)
    gone = f"file://{tmp_path}/gone"
    failed(run("storage", "get", gone, tmp_path / "got", *named), "object_missing", Exit.FAULT)
    wrong = ("--sha256", "xyz", "--size", 1, "--json")
    failed(run("storage", "get", uri, tmp_path / "got", *wrong), "input_invalid", Exit.INPUT)
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("uri", ["ftp://a/b", "https://user:hush@example.org/a", "nonsense"])
def test_uri__that_cannot_be__one_line_without_a_secret(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    said = failed(
        run("storage", "put", tmp_path / "file", uri, "--json"), "uri_invalid", Exit.INPUT
    )
    assert "hush" not in said


@pytest.mark.skipif(find_spec("boto3") is not None, reason="only without the extra")
def test_s3_without_boto3__says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    result = run("storage", "put", tmp_path / "file", "s3://bucket/a", "--json")
    assert "teraproof[s3]" in failed(result, "extra_missing", Exit.INPUT)


def test_checkpoints__saved_listed_and_resumed(tmp_path: Path) -> None:
    work, uri = tmp_path / "work", f"file://{tmp_path}/store"
    work.mkdir()
    (work / "a").write_bytes(DATA)
    saved = document(run("checkpoint", "save", work, uri, "--json"))
    assert saved["files"] == 1 and saved["sent_bytes"] == len(DATA)
    assert document(run("checkpoint", "save", work, uri, "--json")) == saved | {"sent_bytes": 0}
    (work / "a").write_bytes(b"new")
    newer = document(run("checkpoint", "save", work, uri, "--json"))["checkpoint"]
    listed = document(run("checkpoint", "list", uri, "--json"))["checkpoints"]
    assert [each["checkpoint"] for each in listed] == [saved["checkpoint"], newer]
    shown = run("checkpoint", "list", uri)
    assert shown.exit_code == Exit.OK and newer in shown.output
    document(run("checkpoint", "resume", uri, tmp_path / "new", "--json"))
    assert (tmp_path / "new" / "a").read_bytes() == b"new"
    older = ("--checkpoint", saved["checkpoint"], "--json")
    document(run("checkpoint", "resume", uri, tmp_path / "old", *older))
    assert (tmp_path / "old" / "a").read_bytes() == DATA
    again = run("checkpoint", "resume", uri, tmp_path / "new", "--json")
    failed(again, "input_invalid", Exit.INPUT)
    none = run("checkpoint", "resume", f"file://{tmp_path}/none", tmp_path / "x", "--json")
    failed(none, "checkpoint_missing", Exit.FAULT)


def test_checkpoints__larger_than_allowed(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "a").write_bytes(bytes((1 << 20) + 1))
    save = run("checkpoint", "save", work, f"file://{tmp_path}/store", "--max-mb", 1, "--json")
    failed(save, "limit_exceeded", Exit.REFUSED)


def test_save_every__until_a_signal_and_then_once_more(tmp_path: Path) -> None:
    work, uri = tmp_path / "work", f"file://{tmp_path}/store"
    work.mkdir()
    (work / "a").write_bytes(DATA)
    command = ["-m", "teraproof", "checkpoint", "save", str(work), uri, "--every", "3600"]
    saving = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert saving.stdout is not None
    for line in saving.stdout:
        if "checkpoint 1.1" in line:
            break
    (work / "a").write_bytes(b"the last words")
    saving.send_signal(signal.SIGTERM)
    assert saving.wait(timeout=60) == Exit.OK
    saving.stdout.close()
    document(run("checkpoint", "resume", uri, tmp_path / "new", "--json"))
    assert (tmp_path / "new" / "a").read_bytes() == b"the last words"
