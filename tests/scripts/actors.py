# SPDX-License-Identifier: Apache-2.0
"""Signers of the tests, keys in memory in place of Ape's accounts, and a deployment by one."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from scripts.deployment import verify
from scripts.deployment.artifacts import Artifact
from scripts.deployment.checks import check_network, current
from scripts.deployment.deployer import Deployment
from scripts.deployment.plan import Plan
from teraproof.market.chain import Chain
from teraproof.market.registry import Registry
from teraproof.market.sending import Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.rpc.client import RpcPool
from tests.support.anvil import Anvil


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
    check_network(plan, sender.chain)
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
