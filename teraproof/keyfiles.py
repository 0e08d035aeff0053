# SPDX-License-Identifier: Apache-2.0
"""Files with keys: an encrypted keystore with its password file, or a private key.

Files with secrets are refused when anybody but their owner can read them.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import ClassVar

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code

_MAX_FILE = 64 * 1024  # a key file is small; anything larger is a mistake


class KeyFileError(LocalError):
    """A key cannot be read or written."""

    default: ClassVar[Code] = Code.INPUT_INVALID


def load(
    keystore: Path | None = None,
    password_file: Path | None = None,
    private_key_file: Path | None = None,
    *,
    password: str | None = None,
) -> LocalAccount:
    """The key of a keystore and its password (or the file with it), or of a private key file.

    Raises KeyFileError: unreadable, readable by others, wrong password.
    """
    if private_key_file is not None:
        text = secret(private_key_file).strip()
        try:
            return _account(text)
        except Exception:  # noqa: BLE001 - its message could quote the key; `from None` drops it
            raise KeyFileError(
                f"{private_key_file} does not hold a private key (64 hexadecimal digits)",
                path=str(private_key_file),
            ) from None
    if keystore is None:
        raise KeyFileError("name a keystore, or a file with a private key")
    try:
        content = json.loads(secret(keystore))
    except (ValueError, RecursionError):
        raise KeyFileError(
            f"{keystore} is not an Ethereum keystore (JSON)", path=str(keystore)
        ) from None
    where = "that was typed"
    if password_file is not None:
        password, where = secret(password_file).rstrip("\r\n"), f"in {password_file}"
    if password is None:
        raise KeyFileError(f"{keystore} needs its password or a file with it")
    try:
        return _account(Account.decrypt(content, password))
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
        raise KeyFileError(
            f"{keystore} cannot be opened with the password {where}", path=str(keystore)
        ) from None


def address_of(keystore: Path) -> str | None:
    """The EIP-55 address that a keystore names, which needs no password; None when it names none.

    Raises KeyFileError as `load` does.
    """
    try:
        named = json.loads(secret(keystore))["address"]
        return str(to_checksum_address("0x" + named.removeprefix("0x")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def create(keystore: Path, password_file: Path) -> str:
    """Make a new key, encrypted with the password in `password_file`; its address.

    The password file is made with a random password when it is not there. Existing keystores are
    never touched. Raises KeyFileError.
    """
    if keystore.exists():
        raise KeyFileError(
            f"{keystore} exists already; move it away or choose another name", path=str(keystore)
        )
    if not password_file.exists():
        _create(password_file, secrets.token_urlsafe(32) + "\n")
    password = secret(password_file).rstrip("\r\n")
    if not password:
        raise KeyFileError(f"{password_file} is empty; write a password into it")
    account = Account.create()
    _create(keystore, json.dumps(Account.encrypt(account.key, password)) + "\n")
    return str(account.address)


def secret(path: Path) -> str:
    """The text of a file that only its owner can read."""
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise KeyFileError(f"{path} is not a file", path=str(path))
            if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileError(
                    f"{path} can be read by others; run: chmod 600 {path}", path=str(path)
                )
            return file.read(_MAX_FILE).decode()
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not a text file", path=str(path)) from None


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
        raise KeyFileError(f"cannot write {path}: {error.strerror}", path=str(path)) from error


def _account(key: object) -> LocalAccount:
    account: LocalAccount = Account.from_key(key)
    return account
