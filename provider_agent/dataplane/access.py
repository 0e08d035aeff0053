# SPDX-License-Identifier: Apache-2.0
"""Whether a tenant may have a stream, and what of its lease it means."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from provider_agent.dataplane.holders import Holding, Leaseholders, Phase
from teraproof.errors import AuthError, Refused
from teraproof.protocol import leasespec, siwe
from teraproof.protocol.dataplane import Hello, LeaseStream, Proof, Request
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain, digest

_KEPT = 1_024


class Access:
    """Checks proofs; called from several threads. Delegations that were found good are remembered,
    so that a session key costs one look at the tenant's account and not one for each stream.
    """

    def __init__(
        self,
        holders: Leaseholders,
        domain: Domain,
        eth_call: siwe.EthCall,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._holders, self._domain, self._eth_call = holders, domain, eth_call
        self._clock, self._lock = clock, threading.Lock()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def check(self, hello: Hello, opened: bytes, request: Request, proof: Proof) -> Holding:
        """The lease that the sender of `opened`, the bytes of the request, may use now.

        Refused or AuthError say why there is none; ChainError where a contract wallet cannot be
        asked.
        """
        holding = self._holders.find(request.lease)
        if holding is None:
            raise Refused(Code.LEASE_UNKNOWN, "the agent has no such lease; try again soon")
        stream = LeaseStream(
            request.lease, hello.certificate, hello.nonce, hashlib.sha256(opened).digest()
        )
        if proof.delegate:
            said = proof.check_delegate(self._domain, stream, int(self._clock()))
            self._check_signed(holding.requester, said, proof.delegation, remember=True)
        else:
            said = digest(self._domain, stream)
            self._check_signed(holding.requester, said, proof.signature, remember=False)
        check_phase(holding)
        return holding

    def _check_signed(self, tenant: str, said: bytes, signature: bytes, *, remember: bool) -> None:
        key = hashlib.sha256(tenant.encode() + said + signature).digest()
        with self._lock:
            if key in self._good:
                self._good.move_to_end(key)
                return
        error = siwe.refusal(tenant, said, signature, self._eth_call)
        if error is not None:
            raise _of_the_tenant(error, tenant)
        # A contract may take a signature back, so its word is asked for each stream that it signs,
        # and a key that it has named is good until it expires.
        if remember:
            with self._lock:
                self._good[key] = None
                while len(self._good) > _KEPT:
                    self._good.popitem(last=False)


def check_phase(holding: Holding) -> None:
    """Refused unless a lease's ports are open now."""
    if holding.phase is Phase.GRACE:
        raise Refused(
            Code.LEASE_UNCONFIRMED, "the lease is in its grace: confirm it, or wait for its end"
        )
    if holding.phase is Phase.ENDED:
        raise Refused(Code.LEASE_OVER, "the lease has ended")


def service_of(holding: Holding, request: Request) -> leasespec.Service:
    """The service that a request means. Refused where the lease has no such container."""
    for service in holding.spec.services:
        if service.name == request.service:
            if request.number >= service.count:
                raise Refused(
                    Code.PORT_UNKNOWN, f"{service.name} has {service.count} containers, from 0 on"
                )
            return service
    names = ", ".join(each.name for each in holding.spec.services)
    raise Refused(Code.PORT_UNKNOWN, f"the lease has no such service; it has {names}")


def check_port(service: leasespec.Service, port: int) -> None:
    """Refused unless the specification names this TCP port: no other is reachable."""
    named = sorted({each.port for each in service.ports if each.protocol == "tcp"})
    if port not in named:
        said = ", ".join(map(str, named)) or "none"
        raise Refused(
            Code.PORT_UNKNOWN, f"{service.name} has no TCP port {port}; its file names {said}"
        )


def _of_the_tenant(error: AuthError, tenant: str) -> AuthError:
    """What is signed by another key is another's; how a signature is malformed stays said."""
    if error.code is not Code.SIGNATURE_INVALID:
        return error
    return AuthError(f"not signed by the lease's tenant, {tenant}", Code.NOT_TENANT)
