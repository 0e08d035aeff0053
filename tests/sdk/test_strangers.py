# SPDX-License-Identifier: Apache-2.0
"""Providers write on the chain where their agents are. No command enters a network by such a line
that its person has not named, by whatever name the way in is hidden.
"""

from __future__ import annotations

import ast
import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner
from eth_account import Account

from teraproof.cli.main import main
from teraproof.client import asking, dataplane, leases, listing
from teraproof.client.dataplane import Place
from teraproof.errors import LocalError
from teraproof.gateway import discovery
from teraproof.market import directory, feasible, lease_agents, providers, tenant
from teraproof.market.chain import Chain
from teraproof.market.market import Market, strangers_reach
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol import messages
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.errors import Code, Exit
from teraproof.storage.reach import Reach
from tests.scripts.actors import sender_of
from tests.sdk.courtroom import Courtroom
from tests.sdk.offers import spec
from tests.support.anvil import ROOT

CLOSED = strangers_reach()
OPENED = strangers_reach(networks=(ip_network("127.0.0.0/8"),))
INSIDE = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0")


class Trap:
    """Listens inside, says nothing, and counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.came = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.came += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


ACCOUNT = KeySigner(Account.create(), "tenant")
MARKET = SimpleNamespace(chain=SimpleNamespace(chain_id=7), sessions=None)
DOMAIN = messages.Domain(7, "0x" + "44" * 20)


def market(reach: Reach) -> Market:
    return cast(Market, SimpleNamespace(**vars(MARKET), reach=reach))


def _plane(host: str, port: int, reach: Reach) -> None:
    place = Place(host.strip("[]"), port, bytes(32), "0x" + "44" * 20, DOMAIN, reach=reach)
    asyncio.run(dataplane.connect(place, Request(bytes(32), What.PORTS), cast(Any, None)))


WAYS: dict[str, Callable[[str, int, Reach], object]] = {
    "provider list": lambda host, port, reach: listing.ask(f"http://{host}:{port}", reach),
    "lease offers": lambda host, port, reach: leases.ask(f"http://{host}:{port}", reach),
    "models": lambda host, port, reach: discovery.ask_one(f"http://{host}:{port}", reach),
    "jobs": lambda host, port, reach: tenant.connect(
        market(reach), ACCOUNT, f"http://{host}:{port}"
    ).login(),
    "leases": lambda host, port, reach: lease_agents.connect(
        market(reach), ACCOUNT, f"http://{host}:{port}"
    ).login(),
    "data plane": _plane,
}


def why(said: object) -> str:
    return str(getattr(said, "trouble", "") or getattr(said, "why", ""))


def asked(way: str, host: str, port: int, reach: Reach) -> str:
    """Why nothing came of it."""
    try:
        return why(WAYS[way](host, port, reach))
    except LocalError as error:
        return str(error)


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("way", WAYS)
def test_agent_inside_our_network__gets_no_connection(trap: Trap, way: str, host: str) -> None:
    said = asked(way, host, trap.port, CLOSED)
    assert "not public" in said and "TERAPROOF_PRIVATE_NETWORKS" in said
    assert trap.came == 0


@pytest.mark.parametrize("way", WAYS)
def test_agent_inside_a_network_that_was_named__is_asked(trap: Trap, way: str) -> None:
    for reach in (OPENED, CLOSED.naming([("127.0.0.1", trap.port)])):
        before = trap.came
        assert "not public" not in asked(way, "127.0.0.1", trap.port, reach)
        assert trap.came > before
    # The port next to it was not named.
    assert "not public" in asked(way, "127.0.0.1", trap.port + 1, reach)


@pytest.mark.parametrize("way", WAYS)
def test_name_that_leads_elsewhere_at_the_second_look__is_not_followed(
    monkeypatch: pytest.MonkeyPatch, trap: Trap, way: str
) -> None:
    """The address that was judged is the one that is connected to."""
    looks: list[str] = []
    real = socket.getaddrinfo

    def changing(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "host.example":
            return real(host, port, *more, **named)
        looks.append(host)
        place = "127.0.0.2" if len(looks) == 1 else "127.0.0.1"  # nobody listens at the first
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    reach = strangers_reach(networks=(ip_network("127.0.0.2/32"),))
    asked(way, "host.example", trap.port, reach)
    assert looks and trap.came == 0


def test_redirect__leads_nowhere(trap: Trap) -> None:
    """What an agent answers cannot send us on."""
    listening = socket.create_server(("127.0.0.1", 0))

    def redirect() -> None:
        connection, _ = listening.accept()
        connection.recv(4_096)
        where = f"http://127.0.0.1:{trap.port}/"
        head = f"HTTP/1.1 302 Found\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n"
        connection.sendall(head.encode())
        connection.close()

    threading.Thread(target=redirect, daemon=True).start()
    port = int(listening.getsockname()[1])
    assert "302" in asked("models", "127.0.0.1", port, OPENED)
    assert trap.came == 0
    listening.close()


def test_port_of_another_service__gets_no_connection() -> None:
    for way in WAYS:
        assert "not one of a web server" in asked(way, "host.example", 22, CLOSED)


# ---------------------------------------------------------------------- from a chain


def test_commands__endpoint_from_the_chain__reads_with_the_markets_reach(
    full: Courtroom, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads all providers asks nobody inside, where the chain is not this machine's own."""
    owner, operator = Account.create(), Account.create()
    with full.anvil.isolated():
        full.register(owner, operator, 2_000 * 10**18)
        sender = full.market.chain
        providers.set_endpoint(
            full.market,
            type(sender_of(full.anvil, 0))(sender, KeySigner(owner, "owner")),
            QuietUi(),
            f"http://127.0.0.1:{trap.port}",
        )
        closed, opened = replace(full.market, reach=CLOSED), replace(full.market, reach=OPENED)
        known = [providers.read(full.market, str(owner.address))]
        readers: tuple[Callable[[Market], object], ...] = (
            lambda at: directory.read(at, QuietUi()),
            lambda at: feasible.ask_providers(at, QuietUi(), known, spec()),
            lambda at: asking.ask_each(
                providers.endpoints(at), asking.Question("/", 99, bytes), at.reach
            ),
        )
        for read in readers:
            before = trap.came
            read(closed)
            assert trap.came == before
            read(opened)
            assert trap.came > before
        # The command: a chain that runs on this machine, where nobody else has written; the same
        # chain as if others wrote on it; and with its person's word.
        before = trap.came
        assert "not public" not in listed(full, owner.address)
        assert trap.came > before
        monkeypatch.setattr("teraproof.market.chain.LOCAL_CHAIN_IDS", frozenset())
        before = trap.came
        assert "TERAPROOF_PRIVATE_NETWORKS" in listed(full, owner.address)
        assert trap.came == before
        monkeypatch.setenv("TERAPROOF_PRIVATE_NETWORKS", "10.0.0.0/8, 127.0.0.0/8")
        assert "not public" not in listed(full, owner.address)
        assert trap.came > before


def listed(room: Courtroom, owner: str) -> str:
    """Why `provider list` says that an agent is not online."""
    shown = room.stranger.run("provider", "list", "--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output[shown.output.index("{") :])["providers"]
    return next(str(one["trouble"]) for one in found if one["provider"] == owner)


def chain(chain_id: int, *urls: str) -> Chain:
    pool = SimpleNamespace(endpoints=[SimpleNamespace(url=url) for url in urls])
    return Chain(chain_id, "chain", cast(Any, pool), 1)


@pytest.mark.parametrize(
    ("chain_id", "urls", "admitted"),
    [
        (31337, ["http://127.0.0.1:8545"], True),
        (31337, ["http://localhost:8545", "http://[::1]:8546"], True),
        (31337, ["https://rpc.example"], False),
        (31337, ["http://127.0.0.1:8545", "https://rpc.example"], False),
        (11155111, ["http://127.0.0.1:8545"], False),
        (1, ["http://localhost:8545"], False),
    ],
)
def test_this_machine__is_asked_for_a_development_chain_that_runs_here(
    chain_id: int, urls: list[str], admitted: bool
) -> None:
    reach = strangers_reach(chain(chain_id, *urls))
    assert reach.admits("127.0.0.1") is admitted
    assert not reach.admits("10.0.0.1") and not reach.admits("169.254.169.254")


# ---------------------------------------------------------------------- the option


def test_private_networks__nonsense__is_one_line() -> None:
    for text in ("127.0.0.1/8", "home", "10.0.0.0/8;172.16.0.0/12"):
        shown = CliRunner().invoke(main, ["models", "--private-networks", text, "--json"])
        assert shown.exit_code == Exit.INPUT
        assert "error: --private-networks: " in shown.output
        said = json.loads(shown.output[shown.output.index("{") :])
        assert said["error"]["code"] == Code.INPUT_INVALID.value


# ---------------------------------------------------------------------- the kind

_CONNECTS = {"AgentClient": "reach", "LeaseClient": "reach", "Http": "resolve", "Wire": "resolve"}


def test_sdk__connects_to_agents_with_a_reach_alone() -> None:
    """A new command that forgets it fails here: whoever connects says where it may lead."""
    found = []
    for file in sorted((ROOT / "teraproof").rglob("*.py")):
        where = str(file.relative_to(ROOT / "teraproof"))
        # Nodes are named by the person; lines are given a reach; the rest are other words.
        if where.startswith(("rpc/", "protocol/", "sdl/")) or where == "client/line.py":
            continue
        for call in ast.walk(ast.parse(Path(file).read_text("utf-8"))):
            name = getattr(getattr(call, "func", None), "id", "")
            wanted = _CONNECTS.get(name)
            if (
                isinstance(call, ast.Call)
                and wanted
                and wanted not in {k.arg for k in call.keywords}
            ):
                found.append(f"{where}: {name}")
            dotted = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
            if dotted.endswith(("open_connection", "create_connection", "urlopen")):
                found += (
                    [] if where in ("client/dialling.py", "wire.py") else [f"{where}: {dotted}"]
                )
    assert found == []
