# SPDX-License-Identifier: Apache-2.0
"""The chosen network before it is connected to.

Left alone, Ape would try public endpoints, or wait without end for a node that accepts a connection
and says nothing. It would also start a chain of its own, which ends with the command.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import yaml

from scripts.deployment.artifacts import ROOT
from teraproof.errors import WrongInput
from teraproof.rpc.probe import chain_id

_URL = re.compile(r"(https?|wss?)://[^\s/]+\S*")


def check(provider: Any, *, named: bool = True) -> None:
    """WrongInput when the network cannot be used, ChainError when its node does not answer.

    `named` says whether the person chose the network, or accepts one that ends with the command.
    """
    network = provider.network
    if network.is_dev and not named:
        raise WrongInput(
            "choose a network with --network, such as ethereum:sepolia; without it this would run "
            "on a chain that ends with the command"
        )
    url = url_of(provider)
    if url is None:
        return
    with _said_when_slow():
        chain_id(url)


def url_of(provider: Any) -> str | None:
    """Where Ape will look for a node; None where it has one of its own."""
    network = provider.network
    if getattr(provider, "name", None) != "node":
        return None
    given = provider.settings.get("uri")
    if given:  # it stands in the choice
        return str(given) if str(given).startswith("http") else None
    if network.is_dev:
        return None
    ecosystem, name = network.ecosystem.name, network.name
    choice = f"{ecosystem}:{name}"
    known = (provider.settings.get(ecosystem) or {}).get(name) or {}
    url = next((str(known[key]) for key in ("uri", "url", "http_uri") if known.get(key)), None)
    instead = f"use --network {choice}:https://..."
    if url is None:
        raise WrongInput(f"{choice} has no RPC URL here: {instead}, or choose a test net")
    if _URL.fullmatch(url):
        return url if url.startswith("http") else None
    # A URL may hold a secret, so the value is not repeated.
    variable = _variable(ecosystem, name)
    if variable is None:
        raise WrongInput(f"the RPC URL of {choice} in Ape's settings is none; {instead}")
    if url == f"${variable}":
        raise WrongInput(f"{variable} is not set; export it, or {instead}")
    raise WrongInput(f"{variable} is not a URL; export http(s)://..., or {instead}")


@contextmanager
def _said_when_slow() -> Iterator[None]:
    said = threading.Timer(1.0, lambda: click.echo("waiting for the RPC endpoint ...", err=True))
    said.daemon = True
    said.start()
    try:
        yield
    finally:
        said.cancel()


def _variable(ecosystem: str, network: str) -> str | None:
    """The environment variable that ape-config.yaml names for a network."""
    nodes = yaml.safe_load((ROOT / "ape-config.yaml").read_text())["node"]
    uri = str(((nodes.get(ecosystem) or {}).get(network) or {}).get("uri", ""))
    return uri[1:] if uri.startswith("$") else None
