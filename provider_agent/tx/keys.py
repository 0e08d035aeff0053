# SPDX-License-Identifier: Apache-2.0
"""The operator's key: where it comes from, who may read it, and that only one agent uses it.

The key stays inside `OperatorKey`; its text form is the address. Files with secrets are refused
when anybody but their owner can read them.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.errors import KeyInUse, SettingsError
from provider_agent.locks import MachineLock

_MAX_FILE = 64 * 1024  # a key file is small; anything larger is a mistake


class OperatorKey:
    """A private key that signs and shows nothing but its address."""

    __slots__ = ("_account", "address")

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self.address: str = str(account.address)

    def __repr__(self) -> str:
        return f"OperatorKey({self.address})"

    @property
    def account(self) -> LocalAccount:
        """For signing messages; eth-account shows only the address in its text form as well."""
        return self._account

    def sign_transaction(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        """Sign a transaction of type 0 or 2; its hash and the bytes to broadcast."""
        signed = self._account.sign_transaction(fields)
        return bytes(signed.hash), bytes(signed.raw_transaction)


def load_key(
    keystore: Path | None = None,
    password_file: Path | None = None,
    private_key_file: Path | None = None,
) -> OperatorKey:
    """The key from an encrypted keystore and its password file, or from a private key file.

    Raises SettingsError: both or neither given, unreadable, readable by others, wrong password.
    """
    if (keystore is None) == (private_key_file is None):
        raise SettingsError(
            "name either operator.keystore with operator.password_file, "
            "or operator.private_key_file"
        )
    if private_key_file is not None:
        text = _secret(private_key_file).strip()
        try:
            return OperatorKey(Account.from_key(text))
        except Exception:  # noqa: BLE001 - its message could quote the key; `from None` drops it
            raise SettingsError(
                f"{private_key_file} does not hold a private key (64 hexadecimal digits)"
            ) from None
    assert keystore is not None  # the other side of the exclusive or above
    if password_file is None:
        raise SettingsError("operator.keystore needs operator.password_file")
    try:
        content = json.loads(_secret(keystore))
    except ValueError:
        raise SettingsError(f"{keystore} is not an Ethereum keystore (JSON)") from None
    password = _secret(password_file).rstrip("\r\n")
    try:
        return OperatorKey(Account.from_key(Account.decrypt(content, password)))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
        raise SettingsError(
            f"{keystore} cannot be opened with the password in {password_file}"
        ) from None


def create_keystore(keystore: Path, password_file: Path) -> str:
    """Make a new key, encrypted with the password in `password_file`; its address.

    The password file is made with a random password when it is not there. Existing keystores are
    never touched. Raises SettingsError.
    """
    if keystore.exists():
        raise SettingsError(f"{keystore} exists already; move it away or choose another name")
    if not password_file.exists():
        _create(password_file, secrets.token_urlsafe(32) + "\n")
    password = _secret(password_file).rstrip("\r\n")
    if not password:
        raise SettingsError(f"{password_file} is empty; write a password into it")
    account = Account.create()
    _create(keystore, json.dumps(Account.encrypt(account.key, password)) + "\n")
    return str(account.address)


def _secret(path: Path) -> str:
    """The text of a file that only its owner can read."""
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise SettingsError(f"{path} is not a file")
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingsError(f"{path} can be read by others; run: chmod 600 {path}")
            return file.read(_MAX_FILE).decode()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not a text file") from None


def _create(path: Path, text: str) -> None:
    """Write a new file that only its owner can read; never an existing one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from error


class KeyLock:
    """Holds a key for one process of this machine, until it ends in whatever way.

    The lock does not reach other machines: there the nonces tell (see `Sender`).
    """

    def __init__(self, chain_id: int, address: str, directory: Path | None = None) -> None:
        self._lock = MachineLock(f"{chain_id}-{address.lower()}", directory)
        self._what = f"{address} on chain {chain_id}"

    @property
    def path(self) -> Path:
        """The file that is locked."""
        return self._lock.path

    def acquire(self) -> None:
        """Take the lock or raise KeyInUse at once."""
        if not self._lock.take():
            raise KeyInUse(
                f"another agent on this machine uses the key {self._what}; stop it first"
            )

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> KeyLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
