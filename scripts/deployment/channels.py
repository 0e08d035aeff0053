# SPDX-License-Identifier: Apache-2.0
"""Payment channels of a deployment: x402's contract on public chains, ours on local ones.

Clients of x402 know one address on every chain. On public chains x402's own contract stands there,
and a deployment only looks for it. A local chain has nothing there, so the code of ours is put in
its place. That code is what the constructor returns: nothing of it depends on its address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from eth_utils.crypto import keccak

from scripts.deployment.artifacts import Artifact
from teraproof.contracts.channels import ChannelsContract
from teraproof.errors import CommandError, WrongInput
from teraproof.market.chain import Chain
from teraproof.market.registry import Deployed, Registry
from teraproof.protocol.channels import CHANNELS, COLLECTOR, Voucher, channels_domain
from teraproof.protocol.messages import digest
from teraproof.rpc.errors import ChainError

#: What a plan may say: ours is placed, x402's is there, or this market has no channels.
PLACED, CANONICAL, NONE = "place", "canonical", "none"
WORDS = (PLACED, CANONICAL, NONE)
#: Contract -> where it stands on every chain.
PLACES = {"Channels": CHANNELS, "ERC3009DepositCollector": COLLECTOR}

#: Asks a node: method, parameters.
Ask = Callable[[str, Sequence[Any]], Any]


def code_of(ask: Ask, name: str, artifact: Artifact) -> bytes:
    """The code that our contract has at its place."""
    arguments = {
        "Channels": b"",
        "ERC3009DepositCollector": bytes.fromhex(CHANNELS[2:]).rjust(32, b"\0"),
    }
    data = "0x" + (artifact.init_code + arguments[name]).hex()
    return bytes.fromhex(ask("eth_call", [{"data": data}, "latest"])[2:])


def place(ask: Ask, artifacts: Mapping[str, Artifact]) -> None:
    """Put our contracts at their places on a local chain. Doing it again changes nothing."""
    for name, address in PLACES.items():
        wanted = "0x" + code_of(ask, name, artifacts[name]).hex()
        if ask("eth_getCode", [address, "latest"]) != wanted:
            ask("anvil_setCode", [address, wanted])


def check(source: str, word: str, chain: Chain) -> None:
    """The word of the plan `source` against the chain. WrongInput, before anything is sent."""
    where = f"{source}: channels"
    if word == PLACED and not chain.is_local:
        raise WrongInput(
            f"{where}: only a local chain lets code be placed, and {chain.chain_id} is none; "
            f"write {CANONICAL}, or {NONE}"
        )
    if word != CANONICAL:
        return
    for name, address in PLACES.items():
        if not chain.pool.code(address):
            raise WrongInput(
                f"{where}: x402's {name} is not at {address} on chain {chain.chain_id}; "
                f"write {NONE}: no paid inference there"
            )
    if not _is_canonical(chain):
        raise WrongInput(
            f"{where}: {CHANNELS} is not x402's contract on chain {chain.chain_id}; write {NONE}"
        )


def settle(
    source: str, word: str, artifacts: Mapping[str, Artifact], chain: Chain
) -> dict[str, Deployed]:
    """Place what the plan places; what the registry has of the channels. CommandError."""
    if word == NONE:
        return {}
    if word == PLACED:
        try:
            place(_asking(chain), artifacts)
        except ChainError as error:
            raise CommandError(
                f"{source}: channels: {chain.name} lets no code be placed ({error}); "
                f"use anvil, or write {NONE}"
            ) from None
    found = {}
    for name, address in PLACES.items():
        ours = artifacts[name] if word == PLACED else None
        found[name] = Deployed(
            address=address,
            compiler=None if ours is None else ours.compiler,
            bytecode_sha256=None if ours is None else ours.bytecode_hash,
            code_hash="0x" + keccak(chain.pool.code(address)).hex(),
        )
    return found


def differences(
    word: str, registry: Registry, artifacts: Mapping[str, Artifact], chain: Chain
) -> Iterator[tuple[str, str, bool, str]]:
    """For each contract: its name, what was looked at, whether it is right, and what was found."""
    if word == NONE:
        return
    for name, address in PLACES.items():
        code = chain.pool.code(address)
        recorded = registry.contracts.get(name)
        same = recorded is not None and recorded.code_hash == "0x" + keccak(code).hex()
        if word == PLACED:
            same = same and code == code_of(_asking(chain), name, artifacts[name])
        whose = "placed" if word == PLACED else "x402's"
        yield name, "code", same, f"{address}, {len(code):,} bytes, {whose}"
    yield "Channels", "domain", _is_canonical(chain), f"of {CHANNELS}"


def _is_canonical(chain: Chain) -> bool:
    """Whether what stands there makes the digests of x402's contract, with its own domain."""
    voucher = Voucher(bytes(32), 1)
    try:
        made = ChannelsContract(chain.pool, CHANNELS).get_voucher_digest(bytes(32), 1, "latest")
    except ChainError:
        return False
    return made == digest(channels_domain(chain.chain_id), voucher)


def _asking(chain: Chain) -> Ask:
    return lambda method, parameters: chain.pool.call(method, list(parameters))
