# SPDX-License-Identifier: Apache-2.0
"""What is looked at before the first transaction: facts of the network, and what was begun."""

from __future__ import annotations

from pathlib import Path

from scripts.deployment import channels
from scripts.deployment.plan import NEAR_BLOCKS, Plan
from teraproof.contracts.token import TokenContract
from teraproof.errors import WrongInput
from teraproof.headers import HISTORY
from teraproof.market.chain import Chain
from teraproof.market.registry import Registry, load, missing_code, path_of
from teraproof.market.ui import Ui
from teraproof.rpc.errors import ChainError

# Where Arbitrum's chains answer `arbBlockNumber()`; elsewhere there is nothing.
_ARB_SYS = "0x0000000000000000000000000000000000000064"
_ARB_BLOCK_NUMBER = "0xa3b1b31d"
_ARBITRUM = 2  # Benchmark's randomness source


def check_network(plan: Plan, chain: Chain) -> None:
    """The plan against facts of the network. CommandError, before anything is sent."""
    if plan.chain_id != chain.chain_id:
        raise WrongInput(
            f"{plan.source} is for chain {plan.chain_id}, but {chain.name} is chain "
            f"{chain.chain_id}; choose another --network or --plan"
        )
    _check_randomness(plan, chain)
    _check_token(plan, chain)
    channels.check(plan.source, plan.channels, chain)


def _check_token(plan: Plan, chain: Chain) -> None:
    """The payment token must be one that the chain has, and no toy where money is real."""
    if plan.token is None:
        if not chain.is_test:
            raise WrongInput(
                f"{plan.source}: payment_token: the test token, which anyone may mint, is refused "
                f"on chain {chain.chain_id}, which is not a known test net; name a real token"
            )
        return
    token = TokenContract(chain.pool, plan.token.address)
    where = f"{plan.source}: payment_token.address: {token.address}"
    if not chain.pool.code(token.address):
        raise WrongInput(f"{where} has no code on chain {chain.chain_id}")
    try:
        decimals = token.decimals("latest")
        token.balance_of(token.address, "latest")
    except ChainError:
        raise WrongInput(f"{where} does not answer like an ERC-20 token") from None
    if decimals != plan.token.decimals:
        raise WrongInput(
            f"{where} has {decimals} decimals, the plan says {plan.token.decimals}; correct it"
        )


def _check_randomness(plan: Plan, chain: Chain) -> None:
    """The source of randomness must be one that the chain has."""
    source = plan.arguments["Benchmark"]["randomness_source"]
    answer = chain.pool.call("eth_call", [{"to": _ARB_SYS, "data": _ARB_BLOCK_NUMBER}, "latest"])
    arbitrum = len(str(answer)) == 2 + 64
    where = f"{plan.source}: Benchmark.randomness_source"
    if arbitrum and source != _ARBITRUM:
        raise WrongInput(
            f"{where}: {source} is constant or unknown on chain {chain.chain_id}, which has "
            f"Arbitrum's ArbSys; write {_ARBITRUM}"
        )
    if source == _ARBITRUM and not arbitrum:
        raise WrongInput(
            f"{where}: {source} needs Arbitrum's ArbSys, which chain {chain.chain_id} does not "
            "have; write 0 or 1"
        )
    if plan.history_blocks > NEAR_BLOCKS and not chain.pool.code(HISTORY):
        raise WrongInput(
            f"{plan.source}: history_blocks: {plan.history_blocks:,} need the contract of "
            f"EIP-2935, which chain {chain.chain_id} does not have; write {NEAR_BLOCKS}, and "
            "shorter times to draw in"
        )


def current(plan: Plan, chain: Chain, folder: Path, ui: Ui) -> Registry | None:
    """What the registry says of this plan on this chain; None when nothing was begun.

    A registry of a local chain that is gone is put aside; anywhere else that is an error, as is a
    plan that has changed since.
    """
    registry = load(folder, chain.chain_id)
    if registry is None:
        return None
    path = path_of(folder, chain.chain_id)
    gone = None if registry.genesis == chain.genesis() else "its first block"
    if gone is None:
        name = missing_code(registry, chain)
        gone = name and f"{name} ({registry.address(name)})"
    if gone is not None:
        if chain.is_local:
            ui.note(f"{path} was for a local chain that is gone; starting again")
            return None
        raise WrongInput(
            f"{path} names {gone}, which chain {chain.chain_id} does not have: it was written for "
            "another chain, or the chain was reset; check --network, or move the file away"
        )
    if registry.plan_sha256 != plan.sha256:
        state = "finished" if registry.complete else "begun"
        raise WrongInput(
            f"{path}: the deployment was {state} with another plan or other contract code; "
            "restore them to go on, or move the file away to deploy again"
        )
    return registry
