# SPDX-License-Identifier: Apache-2.0
"""Whether anybody answers at an RPC URL, and for which chain: one request with a deadline."""

from __future__ import annotations

import json

from teraproof import nesting
from teraproof.rpc import decode
from teraproof.rpc.endpoint import label
from teraproof.rpc.errors import ChainError, Malformed, Transport
from teraproof.rpc.http import Http, HttpFault

_REQUEST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}).encode()
_MOST = 1 << 16  # bytes


def chain_id(url: str, seconds: float = 10.0) -> int:
    """The chain id of the node at `url`, within `seconds`. ChainError when there is none."""
    name = label(1, url)
    http = Http(tls=url.startswith("https:"))
    try:
        answer = http.post(url, _REQUEST, seconds=seconds, most=_MOST)
    except HttpFault as fault:
        raise Transport(
            f"no RPC endpoint answers: {name} {fault.what}; check the RPC URL",
            reached=fault.reached,
        ) from None
    finally:
        http.close()
    if answer.status != 200:
        raise ChainError(f"{name} answers with HTTP status {answer.status}; check the RPC URL")
    try:
        return decode.small(nesting.loads(answer.body)["result"])
    except (ValueError, KeyError, TypeError, RecursionError, Malformed):
        raise ChainError(f"{name} is not a node of an Ethereum chain; check the RPC URL") from None
