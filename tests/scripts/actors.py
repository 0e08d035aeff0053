# SPDX-License-Identifier: Apache-2.0
"""Signers of the tests, keys in memory in place of Ape's accounts, and a deployment by one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from scripts.market import verify
from scripts.market.artifacts import Artifact
from scripts.market.deployment import Deployment, check_network, current
from scripts.market.network import Chain
from scripts.market.plan import Plan
from scripts.market.registry import Registry
from scripts.market.sending import Sender
from scripts.market.ui import QuietUi
from teraproof.rpc.client import RpcPool
from tests.support.anvil import Anvil


class Signature:
    """What Ape returns for a signed message, as far as the scripts use it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def encode_rsv(self) -> bytes:
        return self.raw


class KeySigner:
    """A `Signer` over a private key."""

    def __init__(self, account: LocalAccount, alias: str) -> None:
        self.account = account
        self.alias = alias

    @property
    def address(self) -> str:
        return str(self.account.address)

    def unlock(self) -> None:
        """Never locked."""

    def sign_transaction(self, fields: dict[str, Any]) -> tuple[bytes, bytes]:
        known = {
            "type": 2,
            "chainId": fields["chainId"],
            "nonce": fields["nonce"],
            "gas": fields["gas"],
            "maxFeePerGas": fields["max_fee"],
            "maxPriorityFeePerGas": fields["max_priority_fee"],
            "value": fields["value"],
            "data": fields["data"],
            "to": fields.get("receiver", b""),
        }
        signed = self.account.sign_transaction(known)
        return bytes(signed.hash), bytes(signed.raw_transaction)

    def sign_message(self, signable_message: SignableMessage, /) -> Signature:
        return Signature(bytes(self.account.sign_message(signable_message).signature))

    def sign_typed(self, document: dict[str, Any]) -> bytes:
        return self.sign_message(encode_typed_data(full_message=document)).encode_rsv()


@cache
def _pool(url: str, chain_id: int) -> RpcPool:
    return RpcPool([url], chain_id)


def chain_of(anvil: Anvil, confirmations: int = 1, receipt_seconds: float = 20.0) -> Chain:
    """The chain of an anvil, as the scripts see it."""
    pool = _pool(anvil.url, anvil.chain_id)
    return Chain(anvil.chain_id, "ethereum:test", pool, confirmations, receipt_seconds)


def sender_of(anvil: Anvil, index: int, chain: Chain | None = None) -> Sender:
    """The sender of one of anvil's development accounts."""
    signer = KeySigner(anvil.accounts[index], f"account {index}")
    return Sender(chain or chain_of(anvil), signer)


def deploy(
    plan: Plan, artifacts: dict[str, Artifact], sender: Sender, folder: Path
) -> tuple[Registry, QuietUi]:
    """What `ape run deploy` does, without Ape."""
    ui = QuietUi()
    check_network(plan, sender.chain, artifacts)
    known = current(plan, sender.chain, folder, ui)
    work = Deployment(plan, artifacts, sender, folder, ui, known)
    work.settle()
    if work.remaining():
        estimates = work.estimate()
        work.show(estimates)
        work.check_funds(estimates)
    registry = work.run()
    verify.report(verify.verify(plan, registry, artifacts, sender.chain), ui)
    work.finish()
    return registry, ui
