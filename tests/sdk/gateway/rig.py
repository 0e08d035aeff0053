# SPDX-License-Identifier: Apache-2.0
"""A gateway over played providers: its endpoint as an ASGI application, and a client of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.gateway.hosts import Host, Hosts
from teraproof.gateway.identity import Counter
from teraproof.gateway.serve import Gateway, compose
from teraproof.gateway.settings import GatewaySettings, KeySettings
from teraproof.gateway.store import Store
from teraproof.protocol.inference import InferenceOffer
from teraproof.protocol.messages import Domain, Struct, sign
from tests.sdk.gateway.played import Played

KEY = "sk-test-0123456789abcdef"


class PlayedChain:
    """What a chain says of channels: the deposits that providers have taken."""

    def __init__(self, providers: Sequence[Played] = ()) -> None:
        self.providers = list(providers)
        self.time = 0
        self.money = 10**18
        """What the payer holds outside of channels."""

    def balance(self, channel: bytes) -> int:
        return sum(one.book[channel].balance for one in self.providers if channel in one.book)

    def now(self) -> int:
        return self.time

    def funds(self, account: str) -> int:
        return self.money


def settings(folder: Path, **changes: Any) -> GatewaySettings:
    """`pay`, `route`, `listen`, `names` are tables; `budget`, `period`, `models` are of the key."""
    folder.mkdir(exist_ok=True)
    file = folder / "test.key"
    if not file.exists():
        file.write_text(KEY + "\n")
        file.chmod(0o600)
    key = KeySettings(
        file=file,
        budget=Decimal(changes.pop("budget", 10)),
        period=changes.pop("period", "total"),
        models=changes.pop("models", ()),
    )
    listen = {"data_dir": folder / "data", **changes.pop("listen", {})}
    route = {"private_networks": ["127.0.0.0/8"], **changes.pop("route", {})}
    found = {"listen": listen, "route": route, "keys": {"app": key}, **changes}
    return GatewaySettings.model_validate(found)


@dataclass
class Rig:
    """A running gateway and a client with its key."""

    gateway: Gateway
    client: httpx.AsyncClient
    payer: LocalAccount
    chain: PlayedChain

    async def chat(self, **body: Any) -> httpx.Response:
        """An answer that is not streamed."""
        return await self.client.post("/v1/chat/completions", json=ask(**body))

    async def words(self, **body: Any) -> tuple[str, list[dict[str, Any]]]:
        """The text of a stream, and its events' documents."""
        answer = await self.client.post("/v1/chat/completions", json=ask(stream=True, **body))
        assert answer.status_code == 200, answer.text
        events = events_of(answer.content)
        return text_of(events), events

    def rows(self) -> list[dict[str, Any]]:
        """The activity log, the oldest first."""
        found = self.gateway.store.read("SELECT * FROM activity ORDER BY id")
        return [dict(row) for row in found]


def ask(**body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "one two three"}]
    return {"model": "model-a", "messages": messages, **body}


def events_of(content: bytes) -> list[dict[str, Any]]:
    found = []
    for line in content.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            found.append(json.loads(line[6:]))
    return found


def text_of(events: Sequence[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        for choice in event.get("choices", [])
    )


@dataclass(frozen=True)
class Players:
    """The hosts that another process plays, and the key that pays."""

    hosts: tuple[Host, ...]
    key: str

    def write(self) -> str:
        """As a text for a command line."""
        hosts = [[host.owner, host.operator, host.offer.to_json()] for host in self.hosts]
        return json.dumps({"hosts": hosts, "key": self.key})

    @classmethod
    def read(cls, text: str) -> Players:
        """The inverse."""
        found = json.loads(text)
        hosts = (
            Host(owner, operator, InferenceOffer.from_json(offer))
            for owner, operator, offer in found["hosts"]
        )
        return cls(tuple(hosts), found["key"])


@asynccontextmanager
async def running(
    folder: Path,
    providers: Sequence[Played | Host],
    *,
    payer: LocalAccount | None = None,
    make_store: Callable[[Path], Store] = Store,
    clock: Callable[[], float] | None = None,
    counters: Mapping[str, Counter] | None = None,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """A gateway that knows these providers."""
    account = payer or Account.create()

    def signed(domain: Domain, message: Struct) -> bytes:
        return sign(domain, message, account)

    found = settings(folder, **changes)
    store = make_store(found.listen.data_dir)
    hosts = Hosts() if clock is None else Hosts(clock=clock)
    hosts.replace([one if isinstance(one, Host) else one.host for one in providers])
    chain = PlayedChain([one for one in providers if isinstance(one, Played)])
    gateway = compose(
        *(found, store, hosts, chain, str(account.address), signed), decimals=6, counters=counters
    )
    transport = httpx.ASGITransport(gateway.app)
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers=headers, timeout=60
        ) as client:
            yield Rig(gateway, client, account, chain)
    finally:
        await gateway.close()
