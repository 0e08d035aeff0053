# SPDX-License-Identifier: Apache-2.0
"""The tenant's side of a provider's API for leases.

The provider is a stranger: every answer is bounded, and taken whole or refused in one line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from teraproof.client.asking import EACH_SECONDS, Question, Silence, ask_each, ask_one
from teraproof.client.jobs import AgentClient
from teraproof.errors import LocalError
from teraproof.protocol import lease_offer, lease_wire, messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import ASKED_SAVE, AskedSave
from teraproof.protocol.lease_offer import LeaseOffer
from teraproof.protocol.lease_wire import (
    LeaseReport,
    QuoteRequest,
    RegistryLogins,
    SignedLeaseQuote,
)
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.protocol.messages import Domain
from teraproof.storage.reach import Reach

_MOST_PARTS = 8_192  # lists and objects in one offer: a libraries' recursion limit guards nothing


class LeaseClient(AgentClient):
    """One tenant talking to one provider about leases. Errors are LocalErrors of one line."""

    def send_spec(self, spec: LeaseSpec) -> None:
        """Make sure that the agent has the specification."""
        path = f"{lease_wire.SPECS}/{spec.digest().hex()}"
        if not self._has(path):
            self._http.checked(self._http.request("PUT", path, content=spec.canonical()))

    def lease_quote(
        self, spec: LeaseSpec, wanted: QuoteRequest, domain: Domain
    ) -> SignedLeaseQuote:
        """A signed quote for `spec`, which was sent before. `domain` is that of Leases.

        Signature, requester, specification and times are checked; rate and collateral are for the
        caller to judge. LocalError (QUOTE_INVALID) for another than was asked for.
        """
        answer = self._http.json("POST", lease_wire.QUOTES, dict(wanted.to_json()))
        try:
            given = SignedLeaseQuote.from_json(answer)
        except LocalError as error:
            raise LocalError(f"{self.base_url}: {error}", error.code) from None
        fault = self._fault(given, spec, wanted, domain)
        if fault is not None:
            raise LocalError(f"{self.base_url}: the quote {fault}", Code.QUOTE_INVALID)
        return given

    def _fault(
        self, given: SignedLeaseQuote, spec: LeaseSpec, wanted: QuoteRequest, domain: Domain
    ) -> str | None:
        quote = given.quote
        try:
            signer = messages.recover(domain, quote, given.signature)
        except LocalError:
            return "is not signed"
        if signer != quote.operator:
            return "is not signed by its operator"
        if quote.spec != spec.digest():
            return "is for another specification"
        if int(quote.requester, 16) and quote.requester != str(self._account.address):
            return "is for another requester"
        if quote.term != wanted.term:
            return "is for another term"
        if quote.notice < max(wanted.notice, spec.notice_seconds):
            return "promises less notice than was asked for"
        if wanted.ready_within and quote.ready_within > wanted.ready_within:
            return "takes more time to be ready than was asked for"
        return None

    def send_logins(self, lease: bytes, logins: RegistryLogins) -> None:
        """Give the hired provider what its registries ask for."""
        path = f"{_lease(lease)}/credentials"
        content = json.dumps(logins.to_json()).encode()
        self._http.checked(self._http.request("PUT", path, content=content))

    def report(self, lease: bytes) -> LeaseReport:
        """How a lease of ours stands, as the agent says it."""
        answer = self._http.json("GET", _lease(lease), limit=lease_wire.REPORT.max_bytes)
        try:
            found = LeaseReport.from_json(answer)
        except LocalError as error:
            raise LocalError(f"{self.base_url}: {error}", Code.ANSWER_INVALID) from None
        if found.lease != lease:
            raise LocalError(f"{self.base_url}: answers for another lease", Code.ANSWER_INVALID)
        return found

    def save(self, lease: bytes, save: int = 0) -> AskedSave:
        """Have the checkpoint of a lease of ours be saved now; how far that is. `save` is the
        number of an earlier answer.
        """
        body = {"save": str(save)}
        path = f"{_lease(lease)}/checkpoint"
        answer = self._http.json("POST", path, body, limit=ASKED_SAVE.max_bytes)
        try:
            return AskedSave.from_json(answer)
        except LocalError as error:
            raise LocalError(f"{self.base_url}: {error}", Code.ANSWER_INVALID) from None


def _lease(lease: bytes) -> str:
    return f"{lease_wire.LEASES}/0x{lease.hex()}"


# ---------------------------------------------------------------------- offers


@dataclass(frozen=True)
class AskedOffer:
    """An agent that was asked: what it offers, or why there is nothing."""

    url: str
    offer: LeaseOffer | None
    trouble: str = ""


def _read(data: bytes) -> LeaseOffer:
    if data.count(b"[") + data.count(b"{") > _MOST_PARTS:
        raise LocalError("offers more than a tool reads", Code.ANSWER_INVALID)
    try:
        return lease_offer.from_json(lease_offer.FORM.load(data))
    except LocalError as error:
        raise LocalError(f"offers nothing that can be read: {error}", error.code) from None


_QUESTION = Question(lease_wire.OFFER, lease_offer.FORM.max_bytes, _read)


def ask(url: str, reach: Reach, seconds: float = EACH_SECONDS) -> AskedOffer:
    """What the agent at `url` offers, within `seconds`. Never raises for what the agent does."""
    return _asked(url, ask_one(url, _QUESTION, reach, seconds))


def ask_all(urls: Mapping[str, str], reach: Reach) -> dict[str, AskedOffer]:
    """Owner -> what the agent at its URL offers, all asked at once, where `reach` admits it."""
    found = ask_each(urls, _QUESTION, reach)
    return {owner: _asked(urls[owner], said) for owner, said in found.items()}


def _asked(url: str, said: LeaseOffer | Silence) -> AskedOffer:
    return AskedOffer(url, None, said.why) if isinstance(said, Silence) else AskedOffer(url, said)
