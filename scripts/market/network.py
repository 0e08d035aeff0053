# SPDX-License-Identifier: Apache-2.0
"""The chain that Ape is connected to."""

from __future__ import annotations

import signal
from typing import Any

from teraproof.errors import WrongInput
from teraproof.market.chain import Chain, chain_at


def connect(provider: Any) -> Chain:
    """The chain behind Ape's connected provider. CommandError when it cannot be used."""
    # Ape's own handler leaves at once; a KeyboardInterrupt lets every `with` clean up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    url = getattr(provider, "http_uri", None)
    if not url:
        raise WrongInput("this network has no http(s) RPC URL; choose one with --network")
    network = provider.network
    choice = f"{network.ecosystem.name}:{network.name}"
    # The node itself is asked: for a local network Ape answers from its settings.
    chain_id = int(provider.make_request("eth_chainId", []), 16)
    return chain_at(str(url), chain_id, choice, int(network.required_confirmations or 0))


def connect_local(provider: Any, instead: str = "") -> Chain:
    """`connect` for a demo. WrongInput on a chain that is not a local one; `instead` says more."""
    chain = connect(provider)
    if not chain.is_local:
        raise WrongInput(
            f"the demo moves time and uses keys that everybody knows; chain {chain.chain_id} is "
            f"not a local one{instead}"
        )
    return chain
