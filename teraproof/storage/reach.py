# SPDX-License-Identifier: Apache-2.0
"""Which places a URI may lead to. A URI of a stranger must not reach what only this machine can.

A name is resolved once, its addresses are judged, and the connection is to one that passed.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.uris import SCHEMES, Uri

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_ADDRESSES = 8  # of one name that are looked at
_LEAST_PORT = 1_024
_WEB_PORTS = (80, 443)
# Public by their numbers to some versions of Python, and doors to the machine's cloud or network.
_DOORS = tuple(map(ip_network, ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24")))
# IPv6 addresses that stand for IPv4 ones where a network translates (RFC 6052).
_TRANSLATED = ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Reach:
    """What a URI may name: its author decides."""

    schemes: frozenset[str]
    anywhere: bool = False
    """Whether any address and port will do; otherwise only public addresses that are not ours."""
    networks: tuple[Network, ...] = ()
    """What may be reached although it is not public."""
    plain_elsewhere: bool = True
    """Whether HTTP, where it is admitted, may leave `networks`."""
    named: frozenset[tuple[str, int]] = frozenset()
    """Hosts and ports that the person at this machine has named: they may be anywhere."""
    advice: str = "use a public one"
    """What to do where an address is not public, for whoever reads the error."""

    @classmethod
    def own(cls) -> Reach:
        """For what the person at this machine names: everything."""
        return cls(frozenset(SCHEMES), anywhere=True)

    @classmethod
    def of_strangers(
        cls,
        networks: Iterable[Network] = (),
        *,
        plain: bool = False,
        plain_inside: bool = False,
        advice: str = "use a public one",
    ) -> Reach:
        """For what a stranger names: public places over TLS, and `networks` that the owner of this
        machine admits. `plain` admits HTTP without TLS, `plain_inside` in these networks alone.
        """
        named = tuple(networks)
        has_http = plain or (plain_inside and bool(named))
        schemes = {"https", "s3"} | ({"http"} if has_http else set())
        return cls(frozenset(schemes), networks=named, plain_elsewhere=plain, advice=advice)

    def naming(self, places: Iterable[tuple[str, int]]) -> Reach:
        """The same, and these hosts and ports wherever they are."""
        return replace(self, named=self.named | {(host.lower(), port) for host, port in places})

    def check(self, uri: Uri) -> Uri:
        """The URI, if its scheme and its port may be used. LocalError says why not."""
        if uri.scheme not in self.schemes:
            raise _refused(f"{uri}: {uri.scheme}:// cannot be used here; use https:// or s3://")
        free = self.anywhere or self._has_named(uri.host, uri.port)
        if not free and 0 < uri.port < _LEAST_PORT and uri.port not in _WEB_PORTS:
            raise _refused(f"{uri}: port {uri.port} is not one of a web server")
        return uri

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """The addresses of a host that may be connected to. LocalError when it has no such one;
        `httpcore.ConnectError` when it has none, or says none within `seconds`.
        """
        found = _look_up(host, port, seconds)[:_ADDRESSES]
        if self._has_named(host, port):
            return found
        passed = [each for each in found if self.admits(each)]
        if not passed:
            raise _refused(f"{host}: leads to an address that is not public; {self.advice}")
        return passed

    def resolve_plain(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """As `resolve`, for a connection without TLS."""
        found = self.resolve(host, port, seconds)
        if self.anywhere or self.plain_elsewhere or self._has_named(host, port):
            return found
        passed = [each for each in found if self._is_named(each)]
        if not passed:
            raise _refused(f"{host}: is reached over TLS alone; use https://")
        return passed

    def admits(self, text: str) -> bool:
        """Whether an address may be connected to."""
        if self.anywhere or self._is_named(text):
            return True
        return self.admits_elsewhere(text) and not _is_ours(text)

    def admits_elsewhere(self, text: str) -> bool:
        """Whether another machine with this rule may connect to an address."""
        public = all(_is_public(each) for each in _meanings(ip_address(text)))
        return self.anywhere or public or self._is_named(text)

    def _has_named(self, host: str, port: int) -> bool:
        return (host.lower(), port) in self.named

    def _is_named(self, text: str) -> bool:
        address = ip_address(text)  # with a scope it is link-local, and in no network
        return any(each.version == address.version and address in each for each in self.networks)


def _meanings(address: Address) -> list[Address]:
    """The addresses that a connection to this one may end at."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _TRANSLATED:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    inner = [address.sixtofour, *(address.teredo or ())]
    return [address, *(each for each in inner if each is not None)]


def _is_public(address: Address) -> bool:
    odd = address.is_multicast or address.is_unspecified or address.is_reserved
    doors = any(each.version == address.version and address in each for each in _DOORS)
    return address.is_global and not odd and not doors


def _is_ours(text: str) -> bool:
    """Whether an address is this machine's own: what listens there trusts who is already here."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((text, 9))  # sends nothing: it asks the kernel for the way
        except OSError:
            return False
        return ip_address(probe.getsockname()[0]) == ip_address(text)


def _look_up(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host, each once. The system's resolver knows no deadline, so it is left
    behind when it is late.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    _in_background(ask)
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise httpcore.ConnectTimeout("the name is not resolved in time") from None
    if isinstance(answer, OSError):
        raise httpcore.ConnectError("the name does not resolve") from answer
    return answer


def _in_background(ask: Callable[[], None]) -> None:
    threading.Thread(target=ask, name="resolver", daemon=True).start()


def _refused(line: str) -> LocalError:
    return LocalError(line, Code.URI_REFUSED)
