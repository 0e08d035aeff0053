# SPDX-License-Identifier: Apache-2.0
"""Who signs for a command: a key on this machine, or an account of Ape's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from eth_account.datastructures import SignedMessage
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from teraproof.errors import WrongInput
from teraproof.protocol import secp256k1
from teraproof.rpc.fees import Offer


@dataclass(frozen=True)
class Unsigned:
    """A transaction to sign: amounts in wei; `to` None creates a contract."""

    chain_id: int
    nonce: int
    gas: int
    offer: Offer
    to: str | None
    data: bytes
    value: int = 0


class Signer(Protocol):
    """Who signs transactions and messages."""

    @property
    def address(self) -> str:
        """EIP-55."""
        ...

    @property
    def alias(self) -> str:
        """How people call it."""
        ...

    def load(self) -> None:
        """Read the key now and not at the first signature, where that is a file's own matter.

        A command that sends transactions does so first: a wrong password ends it at once.
        """
        ...

    def unlock(self) -> None:
        """Make ready to sign; asks for a passphrase if it must. CommandError when it cannot."""
        ...

    def sign_transaction(self, unsigned: Unsigned) -> tuple[bytes, bytes]:
        """Hash and raw bytes. CommandError when it is not signed."""
        ...

    def sign_message(self, signable_message: SignableMessage, /) -> Any:
        """A signature with `encode_rsv` or `signature`, over an EIP-191 or EIP-712 message."""
        ...

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        """65 bytes over an EIP-712 document."""
        ...


class KeySigner:
    """A private key of this machine."""

    def __init__(self, account: LocalAccount, alias: str) -> None:
        self._key, self._alias = account, alias

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address})"

    @property
    def address(self) -> str:
        """EIP-55."""
        return str(self._account().address)

    @property
    def alias(self) -> str:
        """How people call it: the file that holds the key."""
        return self._alias

    def load(self) -> None:
        """Nothing to do: the key was read."""

    def unlock(self) -> None:
        """Nothing to do: the key signs."""

    def sign_transaction(self, unsigned: Unsigned) -> tuple[bytes, bytes]:
        """Hash and raw bytes."""
        fields: dict[str, Any] = {
            "chainId": unsigned.chain_id,
            "nonce": unsigned.nonce,
            "gas": unsigned.gas,
            "value": unsigned.value,
            "data": unsigned.data,
            "to": unsigned.to or b"",
        }
        if unsigned.offer.legacy:
            fields |= {"gasPrice": unsigned.offer.max_fee}
        else:
            fields |= {
                "type": 2,
                "maxFeePerGas": unsigned.offer.max_fee,
                "maxPriorityFeePerGas": unsigned.offer.priority_fee,
            }
        signed = self._account().sign_transaction(fields)
        return bytes(signed.hash), bytes(signed.raw_transaction)

    def sign_message(self, signable_message: SignableMessage, /) -> Any:
        """The signature, as eth-account returns it."""
        said = signable_message
        digest = bytes(keccak(b"\x19" + said.version + said.header + said.body))
        signed = secp256k1.sign(self._account(), digest)
        r, s = (int.from_bytes(part, "big") for part in (signed[:32], signed[32:64]))
        return SignedMessage(HexBytes(digest), r, s, signed[64], HexBytes(signed))

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        """65 bytes over an EIP-712 document."""
        return bytes(self.sign_message(encode_typed_data(full_message=document)).signature)

    def _account(self) -> LocalAccount:
        return self._key


class KeystoreSigner(KeySigner):
    """A key in an encrypted file that names its address. `decrypt` opens it, once.

    What needs no signature needs no password.
    """

    def __init__(self, address: str, alias: str, decrypt: Callable[[], LocalAccount]) -> None:
        self._address, self._alias, self._decrypt = address, alias, decrypt
        self._opened: LocalAccount | None = None

    @property
    def address(self) -> str:
        """EIP-55."""
        return self._address

    def load(self) -> None:
        """Decrypt the key. KeyFileError when the password is wrong."""
        self._account()

    def unlock(self) -> None:
        """The same: what is decrypted signs."""
        self._account()

    def _account(self) -> LocalAccount:
        if self._opened is None:
            opened = self._decrypt()
            if str(opened.address) != self._address:
                raise WrongInput(f"{self._alias}: its key is not that of the address it names")
            self._opened = opened
        return self._opened
