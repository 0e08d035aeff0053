# SPDX-License-Identifier: Apache-2.0
"""Who is asking: sign-in by EIP-4361, then a bearer token bound to the address.

A token is 256 random bits; only its sha256 is stored, so the database opens no session.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from teraproof.errors import AuthError
from teraproof.protocol import siwe
from teraproof.protocol.errors import Code

NONCE_SECONDS = 300
SESSION_SECONDS = 12 * 3600

Clock = Callable[[], float]


class SessionStore(siwe.NonceStore, Protocol):
    """Where nonces and sessions are kept; times are unix seconds."""

    def create_nonce(self, value: str, expires: int) -> None:
        """Remember a nonce until `expires`."""
        ...

    def create_session(self, token_hash: bytes, address: str, expires: int) -> None:
        """Remember a session by the sha256 of its token."""
        ...

    def session(self, token_hash: bytes, now: int) -> str | None:
        """The address of a session that has not expired at `now`, or None."""
        ...


@dataclass(frozen=True)
class Session:
    """A session just opened."""

    token: str
    address: str
    expires: int


class Authenticator:
    """Issues nonces, opens sessions and recognises tokens. Safe to use from any thread."""

    def __init__(
        self,
        store: SessionStore,
        expected: siwe.Expected,
        eth_call: siwe.EthCall,
        clock: Clock = time.time,
    ) -> None:
        self.expected = expected
        self._store, self._eth_call, self._clock = store, eth_call, clock

    def nonce(self) -> tuple[str, int]:
        """A fresh nonce and the time until which it can be used."""
        value = secrets.token_hex(16)
        expires = int(self._clock()) + NONCE_SECONDS
        self._store.create_nonce(value, expires)
        return value, expires

    def login(self, message: str, signature: bytes) -> Session:
        """Open a session for the signer of `message`. AuthError says why not."""
        now = int(self._clock())
        account = siwe.verify(message, signature, self.expected, self._store, self._eth_call, now)
        token = secrets.token_urlsafe(32)
        expires = now + SESSION_SECONDS
        self._store.create_session(_hash(token), account, expires)
        return Session(token, account, expires)

    def account(self, authorization: str | None) -> str:
        """The address behind an Authorization header. AuthError when there is none."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not 40 <= len(token) <= 64:
            raise AuthError(
                "sign in first: POST /v1/auth/nonce, then /v1/auth/login", Code.SESSION_REQUIRED
            )
        account = self._store.session(_hash(token), int(self._clock()))
        if account is None:
            raise AuthError(
                "the session is unknown or has expired; sign in again", Code.SESSION_UNKNOWN
            )
        return account


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
