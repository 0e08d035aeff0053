# SPDX-License-Identifier: Apache-2.0
"""Ape's accounts as signers. Nothing else signs: no unlocked accounts of a node, no raw keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ape import accounts as ape_accounts
from ape.exceptions import AccountsError
from ape.logging import LogLevel, logger
from ape_accounts.accounts import InvalidPasswordError, KeyfileAccount
from eth_account.messages import SignableMessage, encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from teraproof.errors import CommandError, WrongInput
from teraproof.market.chain import Chain
from teraproof.market.signers import Unsigned
from teraproof.protocol.errors import Code

TEST_PREFIX = "TEST::"


class ApeSigner:
    """An Ape account: encrypted key file, hardware wallet plug-in or local test account."""

    def __init__(
        self, account: Any, ecosystem: Any, before_asking: Callable[[], None] = lambda: None
    ) -> None:
        self._account = account
        self._ecosystem = ecosystem
        # Ape asks for passphrases and confirmations by itself: nothing may move over that.
        self._before_asking = before_asking
        self._unlocked = False

    @property
    def address(self) -> str:
        """EIP-55."""
        return str(to_checksum_address(self._account.address))

    @property
    def alias(self) -> str:
        """Ape's name for the account."""
        return str(self._account.alias or self.address)

    def load(self) -> None:
        """Nothing to do: Ape asks when something is signed."""

    def unlock(self) -> None:
        """Ask for the passphrase once. What is signed after that was agreed to before."""
        if self._unlocked or not isinstance(self._account, KeyfileAccount):
            return
        variable = f"APE_ACCOUNTS_{self._account.alias}_PASSPHRASE"
        if not os.environ.get(variable) and not sys.stdin.isatty():
            raise WrongInput(f"account {self.alias} is locked; set {variable} or run in a terminal")
        try:
            # Ape warns that the account will sign everything; the scripts have asked already.
            self._before_asking()
            with logger.at_level(LogLevel.ERROR):
                self._account.set_autosign(True)
        except InvalidPasswordError:
            raise WrongInput(f"account {self.alias}: wrong passphrase in {variable}") from None
        except AccountsError:
            raise WrongInput(f"account {self.alias}: wrong passphrase") from None
        self._unlocked = True

    def sign_transaction(self, unsigned: Unsigned) -> tuple[bytes, bytes]:
        """Hash and raw bytes. CommandError when the account does not sign."""
        self.unlock()
        fields: dict[str, Any] = {
            "chainId": unsigned.chain_id,
            "nonce": unsigned.nonce,
            "gas": unsigned.gas,
            "sender": self.address,
            "value": unsigned.value,
            "data": unsigned.data,
        }
        offer = unsigned.offer
        if offer.legacy:
            fields |= {"type": 0, "gas_price": offer.max_fee}
        else:
            fields |= {
                "type": 2,
                "max_fee": offer.max_fee,
                "max_priority_fee": offer.priority_fee,
            }
        if unsigned.to is not None:
            fields["receiver"] = unsigned.to
        transaction = self._ecosystem.create_transaction(**fields)
        signed = self._quietly(self._account.sign_transaction, transaction)
        raw = bytes(signed.serialize_transaction())
        return bytes(keccak(raw)), raw

    def sign_message(self, signable_message: SignableMessage, /) -> Any:
        """Ape's signature. CommandError when the account does not sign."""
        self.unlock()
        return self._quietly(self._account.sign_message, signable_message)

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        """65 bytes over an EIP-712 document. CommandError when the account does not sign."""
        signed = self.sign_message(encode_typed_data(full_message=document))
        return bytes(signed.encode_rsv())

    def _quietly(self, sign: Any, what: object) -> Any:
        if not self._unlocked:
            self._before_asking()
        # Ape warns at every signature that the key is cached.
        with logger.at_level(LogLevel.ERROR):
            signed = sign(what)
        if not signed:
            raise CommandError(f"account {self.alias} did not sign", Code.DECLINED)
        return signed


def load(
    alias: str | None,
    chain: Chain,
    provider: Any,
    before_asking: Callable[[], None] = lambda: None,
) -> ApeSigner:
    """The account that --account names. CommandError says which there are.

    `before_asking` is called before Ape asks for a passphrase, or a device for a confirmation.
    """
    ecosystem = provider.network.ecosystem
    known = sorted(str(name) for name in ape_accounts.aliases)
    if alias is None:
        listed = ", ".join(known) or "none yet: ape accounts import NAME, or ape accounts generate"
        raise WrongInput(f"pass --account NAME (accounts here: {listed})")
    if alias.startswith(TEST_PREFIX):
        if not chain.is_local:
            raise WrongInput(
                f"{alias} is a test account whose key everybody knows; "
                f"use an account of your own on chain {chain.chain_id}"
            )
        index = alias.removeprefix(TEST_PREFIX)
        tests = ape_accounts.test_accounts
        if not index.isdigit() or int(index) >= len(tests):
            raise WrongInput(f"{alias}: there are {len(tests)} test accounts, from TEST::0 on")
        return ApeSigner(tests[int(index)], ecosystem)
    if alias not in known:
        listed = ", ".join(known) or "none"
        raise WrongInput(
            f"no account {alias!r} (accounts here: {listed}); make one with ape accounts import"
        )
    return ApeSigner(ape_accounts.load(alias), ecosystem, before_asking)
