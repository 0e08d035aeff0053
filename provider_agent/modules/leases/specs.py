# SPDX-License-Identifier: Apache-2.0
"""Specifications that tenants have sent, by their digests."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from provider_agent.core.capacity import Amounts, Capacity, Kind, on_disk
from provider_agent.modules.leases.policy import Policy
from provider_agent.modules.leases.repository import LIVE, LeasesRepository
from teraproof.errors import Refused, SpecError
from teraproof.protocol import leasespec
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec

_PER_ACCOUNT, _BYTES_PER_ACCOUNT = 32, 2 << 20
_BYTES = 256 << 20
_READ = 256  # kept as they were read


class Specs:
    """See the module. Asked from any thread."""

    def __init__(self, store: LeasesRepository, capacity: Capacity, policy: Policy) -> None:
        self._store, self._capacity, self._policy = store, capacity, policy
        self._lock = threading.Lock()
        self._read: OrderedDict[bytes, LeaseSpec] = OrderedDict()
        #: Called with the digest of a new one.
        self.on_new: Callable[[bytes], None] = lambda digest: None

    def has(self, digest: bytes) -> bool:
        """Whether a specification is here."""
        return digest in self._read or self._store.spec(digest) is not None

    def spec(self, digest: bytes) -> LeaseSpec | None:
        """A specification that is here."""
        known = self._read.get(digest)
        if known is not None:
            return known
        body = self._store.spec(digest)
        if body is None:
            return None
        try:
            found = leasespec.parse_named(body, digest)
        except SpecError:
            return None  # a version that this one does not read any more
        self._keep(digest, found)
        return found

    def take(self, account: str, digest: bytes, data: bytes) -> bool:
        """Keep a specification; whether it is new. Refused tells why not.

        One of a lease of ours is always taken: the collateral lies there.
        """
        # Reading one is work for the processor: one at a time.
        with self._lock:
            if self.has(digest):
                return False
            try:
                spec = leasespec.parse_named(data, digest)
            except SpecError as error:
                raise Refused(error.code, str(error)) from None
            owed = any(
                row.is_ours and row.status in LIVE
                for row in self._store.names_spec(digest, account)
            )
            if not owed:
                self._check(account, spec, len(data))
            self._store.put_spec(digest, data, account)
            self._keep(digest, spec)
        self.on_new(digest)
        return True

    def _check(self, account: str, spec: LeaseSpec, size: int) -> None:
        refusal = self._policy.refuse_spec(spec)
        if refusal is not None:
            raise refusal
        count, used = self._store.spec_usage(account)
        if count >= _PER_ACCOUNT or used + size > _BYTES_PER_ACCOUNT:
            raise Refused(
                Code.SPEC_QUOTA,
                "your specifications are over this provider's quota; try again in some hours",
            )
        needs = Amounts(disk=on_disk(size), inodes=1)
        found = self._capacity.fit(needs, Kind.SPARE)
        if self._store.spec_usage()[1] + size > _BYTES or not found or found.drop:
            raise Refused(Code.STORAGE_FULL, "this provider has no room left; try elsewhere")

    def _keep(self, digest: bytes, spec: LeaseSpec) -> None:
        self._read[digest] = spec
        while len(self._read) > _READ:
            self._read.popitem(last=False)
