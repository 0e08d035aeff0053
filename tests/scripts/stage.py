# SPDX-License-Identifier: Apache-2.0
"""A deployed market with an owner, a tenant and a stranger; the operator is played by its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from teraproof.market import jobs
from teraproof.market.consents import Consent
from teraproof.market.jobs import Job, Placed
from teraproof.market.market import Market
from teraproof.market.sending import Call, Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol import messages
from teraproof.protocol.terms import ZERO_WORD, Order
from tests.support.anvil import Anvil

TPF, USD = 10**18, 10**6
ENDPOINT = "http://127.0.0.1:8700"


@dataclass
class Stage:
    """The market and who acts on it."""

    anvil: Anvil
    market: Market
    deployer: Sender
    owner: Sender
    tenant: Sender
    stranger: Sender
    operator: LocalAccount
    ui: QuietUi

    def consent(self, operator: LocalAccount | None = None, owner: str | None = None) -> Consent:
        """The operator's agreement."""
        signer = operator or self.operator
        message = messages.OperatorConsent(
            owner or self.owner.address,
            signer.address,
            self.market.staking.consent_nonce(signer.address, "latest"),
            self.market.now() + 3_600,
        )
        signature = messages.sign(self.market.staking_domain, message, signer)
        return Consent(message, signature, ENDPOINT)

    def order(self, **changes: Any) -> Order:
        """An order of the tenant."""
        values: dict[str, Any] = {
            "spec": b"\x01" * 32,
            "start_price": 1 * USD,
            "max_price": 2 * USD,
            "collateral": 10 * TPF,
            "duration": 600,
            "auction": 60,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": ZERO_WORD,
            "nonce": 1,
            **changes,
        }
        return Order(**values)

    def post(self, **changes: Any) -> Placed:
        """The tenant posts."""
        return jobs.post(self.market, self.tenant, self.ui, self.order(**changes))

    def find(self, placed: Placed) -> Job:
        """The job as the chain has it."""
        return jobs.find(self.market, placed.job.hex())

    def accept(self, placed: Placed) -> None:
        """The operator takes the job."""
        data = self.market.jobs.accept(placed.terms)
        self.operate(Call("accept", self.market.jobs.address, data))

    def attest(self, placed: Placed) -> messages.Attestation:
        """The operator attests a result."""
        now = self.market.now()
        attestation = messages.Attestation(
            placed.job, placed.terms.order.spec, b"\x02" * 32, b"\x03" * 32, now, now + 90
        )
        signature = messages.sign(self.market.jobs_domain, attestation, self.operator)
        data = self.market.jobs.attest(
            placed.terms,
            attestation.result,
            attestation.receipt,
            attestation.started,
            attestation.finished,
            signature,
        )
        self.operate(Call("attest", self.market.jobs.address, data))
        return attestation

    def operate(self, call: Call) -> None:
        """The operator sends a transaction."""
        Sender(self.market.chain, KeySigner(self.operator, "operator")).send(call)
