# SPDX-License-Identifier: Apache-2.0
"""The RPC endpoints of the settings, once for ourselves and once for what strangers cause."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from provider_agent.core.metrics import Metrics
from provider_agent.core.settings import Settings
from teraproof.rpc.client import RpcPool

_RATE = 20.0  # requests per second; the free plans of providers begin at 25
_VISITOR_SECONDS = 3.0
_VISITOR_BURST = 12.0  # requests at once; a quote takes three at most


def make_pool(
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    only: str | None = None,
    on_request: Callable[[], None] = lambda: None,
) -> RpcPool:
    """The endpoints for what the agent itself needs, or `only` the one with this URL.

    `on_request` is called after each request, by the thread that has made it.
    """
    chain = settings.chain

    def observe(endpoint: str, method: str, outcome: str, seconds: float) -> None:
        on_request()
        if metrics is None:
            return
        metrics.rpc_requests.labels(endpoint, outcome).inc()
        if outcome == "failed":
            metrics.rpc_errors.labels(endpoint).inc()

    def rate(url: str) -> float | None:
        if chain.requests_per_second is not None:
            return chain.requests_per_second
        return None if _is_here(url) else _RATE

    pool = RpcPool(
        chain.rpc_urls if only is None else [only],
        chain.chain_id,
        chain.rpc_timeout_seconds,
        rate=rate,
        ca_file=chain.ca_file,
        observer=observe,
    )
    pool.log_range = pool.most_log_range = chain.log_range
    return pool


def make_visitor_pool(settings: Settings) -> RpcPool:
    """The same endpoints for calls that strangers cause, with a small budget of their own: what
    goes wrong with such a call must not put an endpoint out of use for the agent itself.
    """
    chain = settings.chain
    share = chain.strangers_requests_per_second / len(chain.rpc_urls)
    return RpcPool(
        chain.rpc_urls,
        chain.chain_id,
        min(_VISITOR_SECONDS, chain.rpc_timeout_seconds),
        max_wait=0,
        rounds=1,
        rate=lambda _: share,
        burst=_VISITOR_BURST,
        ca_file=chain.ca_file,
    )


def _is_here(url: str) -> bool:
    """Whether a node runs on this machine, so that nobody counts its requests."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
