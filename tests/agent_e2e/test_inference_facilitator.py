# SPDX-License-Identifier: Apache-2.0
"""Client, server and facilitator of the package `x402`, all as they are on PyPI, on our contract:
nothing of ours is between them. They find in it what they know from the canonical one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import vyper
from eth_account import Account
from x402 import x402ClientSync, x402FacilitatorSync, x402ResourceServerSync
from x402.mechanisms.evm import FacilitatorWeb3Signer
from x402.mechanisms.evm.batch_settlement.authorizer_signer import LocalAuthorizerSigner
from x402.mechanisms.evm.batch_settlement.client import (
    BatchSettlementDepositPolicy,
    BatchSettlementEvmScheme,
)
from x402.mechanisms.evm.batch_settlement.facilitator import BatchSettlementEvmFacilitator
from x402.mechanisms.evm.batch_settlement.server import (
    BatchSettlementChannelManagerSync,
    BatchSettlementEvmSchemeServerConfig,
    ChannelManagerConfigSync,
)
from x402.mechanisms.evm.batch_settlement.server import (
    BatchSettlementEvmScheme as ServerScheme,
)
from x402.schemas import AssetAmount, PaymentRequired, ResourceConfig
from x402.schemas.hooks import PaymentResponseContext

from teraproof.protocol import x402 as wire
from tests.agent_e2e.chain import USD, deployment
from tests.support.anvil import Anvil

# The facilitator reads by Multicall3, which all public networks have: the part of it that it calls.
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
READS = """
struct Call:
    target: address
    data: Bytes[4096]

struct Result:
    success: bool
    data: Bytes[4096]

@external
@payable
def tryAggregate(all_of_them: bool, calls: DynArray[Call, 8]) -> DynArray[Result, 8]:
    results: DynArray[Result, 8] = []
    for each: Call in calls:
        success: bool = False
        data: Bytes[4096] = b""
        success, data = raw_call(each.target, each.data, max_outsize=4096, revert_on_failure=False)
        assert success or not all_of_them
        results.append(Result(success=success, data=data))
    return results
"""
PRICE = 1_500
PAYERS, REQUESTS = 3, 4
DEPOSIT = 3  # requests; the least that the client takes


@dataclass
class Shop:
    """A seller, and a facilitator that sends its transactions."""

    market: Any
    receiver: str
    server: x402ResourceServerSync
    manager: BatchSettlementChannelManagerSync
    config: ResourceConfig

    def terms(self) -> PaymentRequired:
        """What a request without a payment is answered with."""
        return self.server.create_payment_required_response(
            self.server.build_payment_requirements(self.config)
        )

    def sell(self, payer: x402ClientSync) -> None:
        """One request, paid."""
        terms = self.terms()
        payment = payer.create_payment_payload(terms)
        verified = self.server.verify_payment(payment, terms.accepts[0])
        assert verified.is_valid, verified
        settled = self.server.settle_payment(payment, terms.accepts[0])
        assert settled.success, settled
        payer.handle_payment_response(
            PaymentResponseContext(payment, terms.accepts[0], settle_response=settled)
        )

    def balance(self, account: str) -> int:
        """Units of the payment token."""
        return int(self.market.payment.read("balanceOf", account))


@pytest.mark.parametrize("authorizer", ["the seller's", "the facilitator's"])
def test_client_server_and_facilitator_of_pypi__deposit_pay_claim_settle_and_refund(
    authorizer: str,
) -> None:
    # On a chain whose time is that of the machine, as they believe.
    with deployment(Anvil(block_time=1, arguments=["--mixed-mining"])) as market:
        code = vyper.compile_code(READS, output_formats=["bytecode_runtime"])
        market.anvil.rpc("anvil_setCode", MULTICALL3, code["bytecode_runtime"])
        network, token = wire.network(market.anvil.chain_id), market.payment
        sender, key, receiver = Account.create(), Account.create(), Account.create().address
        market.anvil.set_balance(sender.address, 10**18)
        signer = LocalAuthorizerSigner(key)
        is_sellers = authorizer == "the seller's"
        facilitator = x402FacilitatorSync()
        facilitator.register(
            [network],
            BatchSettlementEvmFacilitator(
                FacilitatorWeb3Signer(sender.key.hex(), market.anvil.url),
                None if is_sellers else signer,
            ),
        )
        scheme = ServerScheme(
            receiver,
            BatchSettlementEvmSchemeServerConfig(
                receiver_authorizer_signer=signer if is_sellers else None
            ),
        )
        server = x402ResourceServerSync(facilitator)
        server.register(network, scheme)  # type: ignore[arg-type]  # as its own documents do
        server.initialize()
        name, version = token.read("name"), "1"
        price = AssetAmount(
            amount=str(PRICE),
            asset=token.address,
            extra={"name": name, "version": version, "minDeposit": str(DEPOSIT * PRICE)},
        )
        shop = Shop(
            market,
            receiver,
            server,
            BatchSettlementChannelManagerSync(
                ChannelManagerConfigSync(scheme, facilitator, receiver, token.address, network)
            ),
            ResourceConfig(
                scheme="batch-settlement", pay_to=receiver, price=price, network=network
            ),
        )
        payers = [Account.create() for _ in range(PAYERS)]
        market.transact(*(token.call(market.bank, "mint", each.address, USD) for each in payers))
        clients = []
        for each in payers:
            client = x402ClientSync().set_spend_controls({"allowed_assets": True})
            policy = BatchSettlementDepositPolicy(deposit_multiplier=DEPOSIT)
            clients.append(client.register(network, BatchSettlementEvmScheme(each, policy)))
        for _ in range(REQUESTS):
            for client in clients:
                shop.sell(client)

        held = shop.balance(market.channels.address)
        assert held == 2 * DEPOSIT * PRICE * PAYERS  # each has topped up once
        shop.manager.claim_and_settle()
        sold = PRICE * REQUESTS
        assert shop.balance(receiver) == sold * PAYERS
        assert shop.balance(market.channels.address) == held - sold * PAYERS

        shop.sell(clients[0])
        back = shop.manager.refund()
        assert len(back) == PAYERS
        shop.manager.settle()
        paid = [sold + PRICE, *[sold] * (PAYERS - 1)]
        assert [USD - shop.balance(each.address) for each in payers] == paid
        assert shop.balance(receiver) == sum(paid)
        assert shop.balance(market.channels.address) == 0
