# SPDX-License-Identifier: Apache-2.0
"""The agent's certificate and the operator's word on it, renewed before it runs out."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from provider_agent.dataplane import certificate
from teraproof.protocol.dataplane import ALPN, SKEW, Hello, PlaneCertificate
from teraproof.protocol.messages import Domain, sign

Choose = Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]

LIFETIME = 7 * 86_400
"""Seconds for which a certificate is good; it is replaced at half of that."""


@dataclass(frozen=True)
class Identity:
    """One certificate, and what the operator signed for it."""

    tenants: ssl.SSLContext
    public: ssl.SSLContext
    pair: certificate.Pair
    digest: bytes
    operator: str
    expires: int
    signature: bytes

    def hello(self, nonce: bytes) -> Hello:
        """The first frame of a connection."""
        return Hello(self.digest, nonce, self.operator, self.expires, self.signature)


class Identities:
    """The identity of the moment. Its key is made at the start and lies in memory alone; the
    signature is the operator's hot key's, as for all that the agent signs.
    """

    def __init__(
        self, domain: Domain, operator: LocalAccount, clock: Callable[[], float] = time.time
    ) -> None:
        self._domain, self._operator, self._clock = domain, operator, clock
        self._current = self._make()

    def current(self) -> Identity:
        """The one that new connections get."""
        if self._clock() > self._current.expires - LIFETIME // 2:
            self._current = self._make()
        return self._current

    @property
    def expires(self) -> int:
        """When the one of this moment runs out, unix seconds. For any thread."""
        return self._current.expires

    def for_names(self, choose: Choose) -> ssl.SSLContext:
        """A context for one connection, whose client names a host: `choose` says what follows."""
        pair = self.current().pair
        made = certificate.context(pair.certificate, pair.key, ssl.TLSVersion.TLSv1_2)
        made.sni_callback = choose
        return made

    def _make(self) -> Identity:
        now = int(self._clock())
        expires = now + LIFETIME
        # A tenant whose clock is behind does not look at the certificate's own times.
        pair = certificate.make(now - SKEW, expires)
        operator = str(self._operator.address)
        said = PlaneCertificate(operator, pair.digest, expires)
        tenants = certificate.context(pair.certificate, pair.key, ssl.TLSVersion.TLSv1_3)
        tenants.set_alpn_protocols([ALPN])
        tenants.num_tickets = 0  # each connection is a handshake of its own
        public = certificate.context(pair.certificate, pair.key, ssl.TLSVersion.TLSv1_2)
        return Identity(
            tenants,
            public,
            pair,
            pair.digest,
            operator,
            expires,
            sign(self._domain, said, self._operator),
        )
