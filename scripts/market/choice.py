# SPDX-License-Identifier: Apache-2.0
"""The chosen network before it is connected to: left alone, Ape would try public endpoints."""

from __future__ import annotations

import re
from typing import Any

import yaml

from scripts.market.artifacts import ROOT
from scripts.market.errors import WrongInput

_URL = re.compile(r"(https?|wss?)://[^\s/]+\S*")


def check(provider: Any) -> None:
    """ScriptError when Ape's node provider for a live network has no URL of its own."""
    if getattr(provider, "name", None) != "node" or provider.network.is_dev:
        return
    ecosystem, network = provider.network.ecosystem.name, provider.network.name
    if provider.settings.get("uri"):
        return  # it stands in the choice
    choice = f"{ecosystem}:{network}"
    known = (provider.settings.get(ecosystem) or {}).get(network) or {}
    url = next((str(known[key]) for key in ("uri", "url", "http_uri") if known.get(key)), None)
    instead = f"use --network {choice}:https://..."
    if url is None:
        raise WrongInput(f"{choice} has no RPC URL here: {instead}, or choose a test net")
    if _URL.fullmatch(url):
        return
    # A URL may hold a secret, so the value is not repeated.
    variable = _variable(ecosystem, network)
    if variable is None:
        raise WrongInput(f"the RPC URL of {choice} in Ape's settings is none; {instead}")
    if url == f"${variable}":
        raise WrongInput(f"{variable} is not set; export it, or {instead}")
    raise WrongInput(f"{variable} is not a URL; export http(s)://..., or {instead}")


def _variable(ecosystem: str, network: str) -> str | None:
    """The environment variable that ape-config.yaml names for a network."""
    nodes = yaml.safe_load((ROOT / "ape-config.yaml").read_text())["node"]
    uri = str(((nodes.get(ecosystem) or {}).get(network) or {}).get("uri", ""))
    return uri[1:] if uri.startswith("$") else None
