# SPDX-License-Identifier: Apache-2.0
"""A deployed market: its contracts, its tokens, and how a transaction of a person is sent."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from teraproof.amounts import show_ether, show_units, units
from teraproof.client.sessions import Sessions
from teraproof.contracts.abi import Function
from teraproof.contracts.base import Contract
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.contracts.channels import ChannelsContract
from teraproof.contracts.disputes import DisputesContract
from teraproof.contracts.emissions import EmissionsContract
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.leases import LeasesContract
from teraproof.contracts.staking import StakingContract
from teraproof.contracts.token import TokenContract
from teraproof.errors import CommandError, WrongInput
from teraproof.market import registry as registries
from teraproof.market.chain import Chain
from teraproof.market.eip712 import DOMAIN_FIELDS, domain_separator
from teraproof.market.registry import Registry
from teraproof.market.sending import Call, Sender
from teraproof.market.ui import Ui
from teraproof.protocol import signatures
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import Domain
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Receipt
from teraproof.storage.reach import Network, Reach

_PERMIT_SECONDS = 3_600
_PERMIT_FIELDS = (
    ("owner", "address"),
    ("spender", "address"),
    ("value", "uint256"),
    ("nonce", "uint256"),
    ("deadline", "uint256"),
)
# Tokens older than EIP-5267 tell their version like this, or not at all.
_VERSION = Function("version", bytes.fromhex("54fd4d50"), (), ("string",))


@dataclass(frozen=True)
class Market:
    """The contracts of one finished deployment."""

    chain: Chain
    registry: Registry
    staking: StakingContract
    jobs: JobsContract
    benchmark: BenchmarkContract
    emissions: EmissionsContract
    token: TokenContract
    payment: TokenContract
    decimals: int
    """Of the payment token."""
    symbol: str
    court: DisputesContract | None = None
    """Who judges judged orders; None: nobody."""
    leases: LeasesContract | None = None
    """Where capacity is rented; None: the deployment is older than that contract."""
    channels: ChannelsContract | None = None
    """Where requests are paid; None: this chain has no payment channels."""
    sessions: Sessions | None = None
    """Where sessions with agents are kept for later programs; None: nowhere."""
    reach: Reach = field(default_factory=lambda: strangers_reach())
    """Which addresses agents may be asked at: providers write on the chain where they are."""

    @property
    def jobs_domain(self) -> Domain:
        """For quotes and attestations."""
        return Domain(self.chain.chain_id, self.jobs.address)

    @property
    def staking_domain(self) -> Domain:
        """For the operator's consent."""
        return Domain(self.chain.chain_id, self.staking.address)

    def now(self) -> int:
        """The time of the newest block."""
        return self.chain.head().timestamp

    def price(self, text: str, name: str) -> int:
        """An amount of the payment token as people write it. CommandError names `name`."""
        return units(text, self.decimals, name, self.symbol)

    def show_price(self, amount: int) -> str:
        """An amount of the payment token for people."""
        return show_units(amount, self.decimals, self.symbol)

    def payment_balance(self, account: str) -> int:
        """Payment token units that an account holds."""
        return self.payment.balance_of(account, "latest")

    def token_balance(self, account: str) -> int:
        """TPF wei that an account holds."""
        return self.token.balance_of(account, "latest")


_INSIDE = (
    "if that is where it should be, name its network in --private-networks "
    "(TERAPROOF_PRIVATE_NETWORKS), or the agent in --endpoint"
)
_THIS_MACHINE = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def strangers_reach(chain: Chain | None = None, networks: Iterable[Network] = ()) -> Reach:
    """Public addresses, and `networks`. This machine itself where the chain is a development chain
    that runs here: nobody else has written on it.
    """
    admitted = [*networks]
    if chain is not None and chain.is_local and chain.is_here:
        admitted += _THIS_MACHINE
    return Reach.of_strangers(admitted, plain=True, advice=_INSIDE)


def open_market(
    folder: Path, chain: Chain, *, keep_sessions: bool = False, reach: Reach | None = None
) -> Market:
    """The market on this chain. CommandError when there is none, or it is not what was recorded.

    `keep_sessions` keeps sessions with agents in the user's state directory. `reach` says where
    agents may be asked; without it `strangers_reach` does.
    """
    registry = registries.require(folder, chain)
    pool = chain.pool
    jobs = JobsContract(pool, registry.address("Jobs"))
    payment = TokenContract(pool, jobs.payment_token("latest"))
    if payment.address != registry.address("PaymentToken"):
        raise WrongInput("Jobs is paid in another token than the registry says; deploy again")
    return Market(
        chain=chain,
        registry=registry,
        staking=StakingContract(pool, registry.address("Staking")),
        jobs=jobs,
        benchmark=BenchmarkContract(pool, registry.address("Benchmark")),
        emissions=EmissionsContract(pool, registry.address("Emissions")),
        token=TokenContract(pool, registry.address("Token")),
        payment=payment,
        decimals=payment.decimals("latest"),
        symbol=_symbol(payment),
        court=_court(jobs),
        leases=_leases(pool, registry),
        channels=_channels(pool, registry),
        sessions=_sessions(chain, registry, jobs.address) if keep_sessions else None,
        reach=strangers_reach(chain) if reach is None else reach,
    )


def _court(jobs: JobsContract) -> DisputesContract | None:
    named = jobs.court("latest")
    return None if named == ZERO_ADDRESS else DisputesContract(jobs.rpc, named)


def _leases(pool: RpcPool, registry: Registry) -> LeasesContract | None:
    deployed = registry.contracts.get("Leases")
    return None if deployed is None else LeasesContract(pool, deployed.address)


def _channels(pool: RpcPool, registry: Registry) -> ChannelsContract | None:
    known = registry.contracts.get("Channels")
    return None if known is None else ChannelsContract(pool, known.address)


def _sessions(chain: Chain, registry: Registry, jobs: str) -> Sessions | None:
    try:
        return Sessions(chain.chain_id, registry.genesis, jobs)
    except RuntimeError:
        return None  # nobody's home


def transact(sender: Sender, ui: Ui, label: str, contract: Contract, data: bytes) -> Receipt:
    """Send calldata to a contract and say what it cost."""
    sender.signer.unlock()  # it may ask for a passphrase
    ui.doing(f"{label}: waiting until the transaction is mined")
    receipt = sender.send(Call(label, contract.address, data))
    fee = receipt.gas_used * receipt.gas_price
    # Gas is free on some local chains.
    shown = f" ({show_ether(fee, sender.chain.symbol)})" if fee else ""
    ui.step(f"{label}: {receipt.gas_used:,} gas{shown}, 0x{receipt.tx_hash.hex()}")
    return receipt


@dataclass(frozen=True)
class Permit:
    """An EIP-2612 signature, in the order in which the contracts take it."""

    amount: int
    deadline: int
    v: int
    r: bytes
    s: bytes

    def arguments(self) -> tuple[int, int, int, bytes, bytes]:
        """amount, deadline, v, r, s."""
        return (self.amount, self.deadline, self.v, self.r, self.s)


def sign_permit(
    market: Market, token: TokenContract, sender: Sender, spender: str, amount: int
) -> Permit | None:
    """A permit for `amount`, or None when the token has none that can be signed for."""
    domain = _permit_domain(token, market.chain.chain_id)
    if domain is None:
        return None
    deadline = market.now() + _PERMIT_SECONDS
    made = sender.signer.sign_typed(
        {
            "types": {
                "EIP712Domain": [{"name": n, "type": t} for n, t in DOMAIN_FIELDS],
                "Permit": [{"name": n, "type": t} for n, t in _PERMIT_FIELDS],
            },
            "primaryType": "Permit",
            "domain": domain,
            "message": {
                "owner": sender.address,
                "spender": spender,
                "value": amount,
                "nonce": token.nonces(sender.address, "latest"),
                "deadline": deadline,
            },
        }
    )
    signature = signatures.normalised(made)  # the token takes one form of it
    return Permit(amount, deadline, signature[64], signature[:32], signature[32:64])


def check_tokens(
    market: Market, token: TokenContract, account: str, needed: int, shown: str
) -> None:
    """CommandError when an account holds less than `needed`, which people call `shown`."""
    held = token.balance_of(account, "latest")
    if held < needed:
        decimals, symbol = (
            (18, "TPF") if token is market.token else (market.decimals, market.symbol)
        )
        raise CommandError(
            f"{account} holds {show_units(held, decimals, symbol)}, but {shown} are needed",
            Code.FUNDS_MISSING,
        )


def fresh_nonce() -> int:
    """Tells equal orders apart."""
    return secrets.randbits(64)


def _permit_domain(token: TokenContract, chain_id: int) -> dict[str, Any] | None:
    """The token's EIP-712 domain, proven by its DOMAIN_SEPARATOR."""
    try:
        wanted = token.domain_separator("latest")
        token.nonces(token.address, "latest")
        name = token.name("latest")
    except ChainError:
        return None
    versions = ["1", "2"]
    # Most tokens do not tell; then the usual ones are tried.
    with contextlib.suppress(ChainError):
        answer = token.rpc.eth_call(token.address, _VERSION.encode(), "latest")
        versions.insert(0, str(_VERSION.decode_output(answer)[0]))
    for version in versions:
        if domain_separator(name, version, chain_id, token.address) == wanted:
            return {
                "name": name,
                "version": version,
                "chainId": chain_id,
                "verifyingContract": token.address,
            }
    return None


def _symbol(token: TokenContract) -> str:
    try:
        text = token.symbol("latest")
    except ChainError:
        return "tokens"
    # The token is a stranger: nothing that a terminal would obey.
    return "".join(c for c in text if c.isascii() and c.isalnum())[:12] or "tokens"
