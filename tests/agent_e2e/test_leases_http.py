# SPDX-License-Identifier: Apache-2.0
"""The tenant's client and the agent's routes: an offer, a quote, a lease, its streams."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from teraproof.client import dataplane
from teraproof.client.dataplane import Place
from teraproof.client.leases import LeaseClient, ask
from teraproof.errors import RemoteError
from teraproof.protocol import messages
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome, QuoteRequest
from teraproof.storage.reach import Reach
from tests.agent.leases.documents import spec
from tests.agent_e2e.lease_rig import LeaseRig


class Wallet:
    """A tenant that signs EIP-712 documents."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        return bytes(self._account.sign_typed_data(full_message=document).signature)


def test_lease__by_the_tenants_own_tools(agent: LeaseRig) -> None:
    one, domain = spec(), messages.Domain(agent.anvil.chain_id, agent.leases.address)
    with agent.serving() as url, LeaseClient(url, agent.tenant, agent.anvil.chain_id) as client:
        asked = ask(url, Reach.own())
        assert asked.offer is not None, asked.trouble
        assert asked.offer.rate(one, 10**6) == agent.module._policy.rate(one, 3_600)
        client.send_spec(one)
        signed = client.lease_quote(one, QuoteRequest(one.digest(), 3_600), domain)
        assert signed.images.keys() == {"web"}
        terms = agent.hire(signed)
        agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
        agent.cycle(2)
        report = client.report(terms.lease_id())
        assert report.running and report.status is LeaseStatus.ACTIVE

        plane = report.endpoints[0].url.removeprefix("teraproof://").partition("/")[0]
        place = Place.at(plane, terms.lease_id(), agent.operator.address, domain)
        key = dataplane.session_key(place, Wallet(agent.tenant))
        request = Request(terms.lease_id(), What.LOGS, "web")
        with pytest.raises(RemoteError) as caught:
            dataplane.logs(place, key, request, io.BytesIO(), io.BytesIO())
        assert caught.value.code is Code.LEASE_UNCONFIRMED
        agent.call(agent.tenant, "confirm")
        agent.cycle()
        said = io.BytesIO()
        dataplane.logs(place, key, request, said, io.BytesIO())
        assert said.getvalue() == f"printed by {agent.name[:8]}\n".encode()

        # Who has stolen a session of the API loses it with the keys; the tenant signs in again.
        mine, others, late = b"\x01" * 32, b"\x02" * 32, int(time.time()) + 600
        agent.store.create_session(mine, str(agent.tenant.address), late)
        agent.store.create_session(others, str(agent.stranger.address), late)
        revoking = Request(terms.lease_id(), What.REVOKE)
        dataplane.asked(place, dataplane.Signed(Wallet(agent.tenant)), revoking)
        assert agent.store.session(mine, 0) is None
        assert agent.store.session(others, 0) == agent.stranger.address
        assert client.report(terms.lease_id()).running

        agent.call(agent.tenant, "close")
        agent.cycle(2)
        ended = client.report(terms.lease_id())
        assert (ended.outcome, ended.status) == (LeaseOutcome.BY_TENANT, LeaseStatus.NONE)
