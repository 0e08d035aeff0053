# SPDX-License-Identifier: Apache-2.0
"""The bytes of one transaction: what an intent asks for, at a nonce, a price and a gas limit."""

from __future__ import annotations

from provider_agent.store import Intent, Transaction
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.observe import CANCEL
from teraproof.rpc.fees import Offer


def signed(
    key: OperatorKey,
    chain_id: int,
    intent: Intent,
    nonce: int,
    kind: str,
    gas: int,
    offer: Offer,
    signed_at: int,
) -> Transaction:
    """The intent's call, or for CANCEL a transfer of nothing to the account itself.

    `gas` is its limit, `signed_at` unix seconds. Nothing is written and nothing is sent.
    """
    to_self = kind == CANCEL
    fields = {
        "chainId": chain_id,
        "nonce": nonce,
        "to": key.address if to_self else intent.to,
        "value": 0 if to_self else intent.value,
        "data": b"" if to_self else intent.data,
        "gas": gas,
    }
    if offer.legacy:
        fields["gasPrice"] = offer.max_fee
    else:
        fields |= {
            "type": 2,
            "maxFeePerGas": offer.max_fee,
            "maxPriorityFeePerGas": offer.priority_fee,
        }
    tx_hash, raw = key.sign_transaction(fields)
    return Transaction(tx_hash, nonce, kind, raw, gas, offer.max_fee, offer.priority_fee, signed_at)
