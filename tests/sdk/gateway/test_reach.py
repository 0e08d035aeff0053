# SPDX-License-Identifier: Apache-2.0
"""A provider says by itself where it is. No request of the gateway enters a network that its
settings do not name, by whatever name the way in is hidden.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teraproof import names
from teraproof.client.asking import Silence
from teraproof.errors import LocalError
from teraproof.gateway import discovery
from teraproof.gateway.faults import HostFailed, within
from teraproof.gateway.hosts import Demands, Host
from teraproof.gateway.lines import Lines
from teraproof.gateway.settings import RouteSettings
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.errors import Code
from tests.sdk.gateway.played import CHAIN, TOKEN, Played
from tests.sdk.gateway.rig import ask, running

INSIDE = (
    "http://127.0.0.1:{port}",
    "http://localhost:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "http://2130706433:{port}",
    "http://0x7f.1:{port}",
    "http://0.0.0.0:{port}",
)


@pytest.fixture
def provider() -> Iterator[Played]:
    with Played() as found:
        yield found


def at(provider: Played, url: str) -> Host:
    offer = replace(provider.offer, url=url.format(port=provider.port))
    return replace(provider.host, offer=offer)


@pytest.mark.parametrize("url", INSIDE)
def test_host_inside_our_network__gets_no_request(
    provider: Played, tmp_path: Path, url: str
) -> None:
    host = at(provider, url)

    async def work() -> None:
        async with running(tmp_path, [host], route={"private_networks": []}) as rig:
            for streams in (False, True):
                answer = await rig.client.post("/v1/chat/completions", json=ask(stream=streams))
                assert answer.status_code == 502
                assert "not public" in answer.json()["error"]["message"]
                assert "route.private_networks" in answer.json()["error"]["message"]
            assert rig.gateway.hosts.is_out(host.owner)

    asyncio.run(work())
    assert provider.asked == 0


def test_name_that_leads_elsewhere_at_the_second_look__is_asked_once(
    monkeypatch: pytest.MonkeyPatch, provider: Played
) -> None:
    looks: list[str] = []
    real = socket.getaddrinfo

    def changing(host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host != "host.example":
            return real(host, port, *more, **named)
        looks.append(host)
        # Documentation's own address first, our machine behind it.
        place = "192.0.2.1" if len(looks) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    # 192.0.2.0/24 passes the first look here, and nobody answers there.
    reach = RouteSettings(private_networks=("192.0.2.0/24",)).reach
    url = f"http://host.example:{provider.port}/v1/provider"

    async def work() -> None:
        lines = Lines(reach, kept_seconds=1.0)
        try:
            with pytest.raises(HostFailed):
                async with within(0.5):
                    await lines.post(url, b"{}", {}, wait=0.5)
            assert len(looks) == 1
            with pytest.raises(LocalError, match=r"route\.private_networks") as refused:
                await lines.post(url, b"{}", {}, wait=0.5)
            assert refused.value.code is Code.URI_REFUSED
        finally:
            lines.close()

    asyncio.run(work())


def test_discovery__asks_no_endpoint_inside(provider: Played) -> None:
    closed, opened = RouteSettings(), RouteSettings(private_networks=("127.0.0.0/8",))
    said = discovery.ask_one(provider.url, closed.reach)
    assert isinstance(said, Silence)
    assert "route.private_networks" in said.why
    assert discovery.ask_one(provider.url, opened.reach) == provider.offer


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example:22",
        "https://name:word@host.example",
        "https://host.example/?to=",
        "https://host.example/#",
        "ftp://host.example",
    ],
)
def test_url_that_makes_more_of_our_paths__is_not_a_host(provider: Played, url: str) -> None:
    wanted = Demands(CHAIN, CHANNELS, TOKEN, 6, 7 * 86_400)
    at(provider, "https://host.example/api").check(wanted)
    with pytest.raises(LocalError):
        at(provider, url).check(wanted)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("127.0.0.1/8", "write 127.0.0.0/8"),
        ("fd00::7/64", "write fd00::/64"),
        ("home", "write one such as 10.0.0.0/8"),
        ("10.0.0.0/33", "write one such as 10.0.0.0/8"),
    ],
)
def test_network_that_is_none__the_error_says_what_to_write(said: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        RouteSettings(private_networks=(said,))
    with pytest.raises(ValueError, match=why):
        names.ip_block(said)
    assert str(names.ip_block(" 10.0.0.0/8 ")) == "10.0.0.0/8"
