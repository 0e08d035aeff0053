# SPDX-License-Identifier: Apache-2.0
"""The operator's key: where it comes from, who may read it, and that only one agent uses it.

The key stays inside `OperatorKey`; its text form is the address. Files with secrets are refused
when anybody but their owner can read them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from provider_agent.errors import KeyInUse, SettingsError
from teraproof import keyfiles
from teraproof.locks import MachineLock


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
    if keystore is not None and password_file is None:
        raise SettingsError("operator.keystore needs operator.password_file")
    try:
        return OperatorKey(keyfiles.load(keystore, password_file, private_key_file))
    except keyfiles.KeyFileError as error:
        raise SettingsError(str(error), **error.details) from None


def create_keystore(keystore: Path, password_file: Path) -> str:
    """Make a new key, encrypted with the password in `password_file`; its address.

    The password file is made with a random password when it is not there. Existing keystores are
    never touched. Raises SettingsError.
    """
    try:
        return keyfiles.create(keystore, password_file)
    except keyfiles.KeyFileError as error:
        raise SettingsError(str(error), **error.details) from None


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
