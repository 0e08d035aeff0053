# SPDX-License-Identifier: Apache-2.0
"""The operator key: files, permissions, secrecy, and one agent for each key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provider_agent.errors import KeyInUse, SettingsError
from provider_agent.tx.keys import KeyLock, create_keystore, load_key
from teraproof import locks

SECRET = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def _file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("text", [SECRET, f"0x{SECRET}\n"])
def test_load_key__private_key_file(tmp_path: Path, text: str) -> None:
    key = load_key(private_key_file=_file(tmp_path / "key", text))
    assert key.address == ADDRESS
    assert SECRET not in repr(key) + str(key) + repr(key.account)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_load_key__readable_by_others__refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SettingsError, match="can be read by others; run: chmod 600"):
        load_key(private_key_file=_file(tmp_path / "key", SECRET, mode))


@pytest.mark.parametrize("text", ["", "zz", SECRET[:-2], "0" * 64, SECRET + SECRET])
def test_load_key__malformed__refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_key(private_key_file=_file(tmp_path / "key", text))
    assert "does not hold a private key" in str(caught.value)
    assert SECRET[:10] not in str(caught.value)
    assert caught.value.__suppress_context__


def test_load_key__missing_or_not_a_file__refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_key(private_key_file=tmp_path / "nothing")
    with pytest.raises(SettingsError, match="cannot read"):
        load_key(private_key_file=tmp_path)


def test_load_key__both_or_neither__refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name either"):
        load_key()
    with pytest.raises(SettingsError, match="name either"):
        load_key(keystore=tmp_path, private_key_file=tmp_path)
    with pytest.raises(SettingsError, match=r"needs operator\.password_file"):
        load_key(keystore=_file(tmp_path / "store", "{}"))


def test_create_keystore__opens_again_and_is_private(tmp_path: Path) -> None:
    store, password = tmp_path / "new" / "operator.json", tmp_path / "new" / "password"
    address = create_keystore(store, password)
    assert load_key(keystore=store, password_file=password).address == address
    for path in (store, password):
        assert path.stat().st_mode & 0o777 == 0o600
    # What it takes to try a password: other tests make keystores that take less.
    made = json.loads(store.read_text())["crypto"]
    assert made["kdf"] == "scrypt" and made["kdfparams"]["n"] >= 2**17
    with pytest.raises(SettingsError, match="exists already"):
        create_keystore(store, password)
    _file(password, "another")
    with pytest.raises(SettingsError, match="cannot be opened with the password"):
        load_key(keystore=store, password_file=password)
    _file(store, "not json")
    with pytest.raises(SettingsError, match="not an Ethereum keystore"):
        load_key(keystore=store, password_file=password)
    _file(store, "[]")
    with pytest.raises(SettingsError, match="cannot be opened"):
        load_key(keystore=store, password_file=password)


def test_key_lock__second_holder__key_in_use(tmp_path: Path) -> None:
    with KeyLock(1, ADDRESS, tmp_path):
        with pytest.raises(KeyInUse, match="another agent on this machine"):
            KeyLock(1, ADDRESS.lower(), tmp_path).acquire()
        with KeyLock(2, ADDRESS, tmp_path):
            pass
    with KeyLock(1, ADDRESS, tmp_path):
        pass


def test_key_lock__holder_is_killed__free_again(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from provider_agent.tx.keys import KeyLock;"
        f"KeyLock(1, {ADDRESS!r}, Path({str(tmp_path)!r})).acquire(); print('held', flush=True);"
        "time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[3],
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = KeyLock(1, ADDRESS, tmp_path)
        with pytest.raises(KeyInUse):
            lock.acquire()
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    lock.acquire()
    lock.release()


def test_key_lock__file_removed_meanwhile__locks_the_new_one(tmp_path: Path) -> None:
    first = KeyLock(1, ADDRESS, tmp_path)
    first.acquire()
    first.path.unlink()
    second = KeyLock(1, ADDRESS, tmp_path)
    second.acquire()
    assert second.path.exists()
    first.release()
    second.release()


def test_lock_directory__is_shared() -> None:
    assert locks.shared_directory().is_dir()
