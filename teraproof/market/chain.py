# SPDX-License-Identifier: Apache-2.0
"""The chain that a command works on, reached through an RPC pool."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from teraproof.errors import CommandError
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef

LOCAL_CHAIN_IDS = frozenset({1337, 31337})
# Test nets of Ethereum, Base, Arbitrum and OP; a coin there is worth nothing.
TEST_CHAIN_IDS = LOCAL_CHAIN_IDS | {11155111, 560048, 84532, 421614, 11155420}

_GAS_OF_A_BLOCK = 30_000_000  # where the node does not say


@dataclass(frozen=True)
class Chain:
    """A chain and how it is reached."""

    chain_id: int
    name: str
    pool: RpcPool
    confirmations: int
    """Blocks, the transaction's own included, after which a transaction counts as done."""
    receipt_seconds: float = 300.0
    """How long to wait for a transaction before giving the terminal back."""
    replace_seconds: float = 45.0
    """After which a transaction that waits is sent again at today's price, with the same nonce."""
    symbol: str = "ETH"

    @property
    def is_local(self) -> bool:
        """Whether this is a development chain that may vanish at any time."""
        return self.chain_id in LOCAL_CHAIN_IDS

    @property
    def is_here(self) -> bool:
        """Whether all of its RPC endpoints are on this machine, by their addresses."""
        hosts = [urlsplit(endpoint.url).hostname for endpoint in self.pool.endpoints]
        return all(host == "localhost" or _is_loopback(host or "") for host in hosts)

    @property
    def is_test(self) -> bool:
        """Whether money on this chain is worth nothing."""
        return self.chain_id in TEST_CHAIN_IDS

    @property
    def poll_seconds(self) -> float:
        """How often to look for a receipt."""
        return 0.1 if self.is_local else 0.5

    def head(self) -> BlockRef:
        """The newest block."""
        return self.pool.head()

    def genesis(self) -> str:
        """The hash of block 0, which tells a chain from its successor on the same port."""
        return "0x" + self.pool.block(0).hash.hex()

    def gas_limit(self) -> int:
        """The gas limit of the newest block."""
        return self.pool.head().gas_limit or _GAS_OF_A_BLOCK


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def chain_at(
    url: str, chain_id: int, name: str, confirmations: int, *, timeout: float = 30.0
) -> Chain:
    """The chain behind an RPC URL, once it has answered. CommandError names it by `name`."""
    chain = Chain(chain_id, name, RpcPool([url], chain_id, timeout=timeout), max(1, confirmations))
    try:
        chain.head()
    except ChainError as error:
        raise CommandError(f"{name}: {error}", error.code) from None
    return chain
