# SPDX-License-Identifier: Apache-2.0
"""Names as people write them: URLs of nodes and agents, networks, ids of jobs."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

from teraproof.errors import WrongInput

_LEAST_DIGITS, _DIGITS = 6, 64
_HEX = frozenset("0123456789abcdef")
_MOST_URL = 2_000


def http_url(text: str, name: str) -> str:
    """An http(s) URL with a host. WrongInput names `name`, not the URL with its secrets."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # each is looked at when it is read
        good = parts.scheme in ("http", "https") and bool(host)
    except ValueError:
        good = False
    if not good or len(text) > _MOST_URL or not text.isascii() or " " in text:
        raise WrongInput(f"{name}: give an http(s) URL with a host, such as https://gpu.example")
    if not text.isprintable():
        raise WrongInput(f"{name}: give an http(s) URL in printable characters")
    return text


def ip_block(text: str) -> IPv4Network | IPv6Network:
    """A network such as 10.0.0.0/8. ValueError says what to write."""
    try:
        return ip_network(text.strip())
    except ValueError:
        pass
    try:
        meant = ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text[:50]!a} is not a network; write one such as 10.0.0.0/8") from None
    raise ValueError(f"{text.strip()} is an address inside of a network; write {meant}")


def job_digits(text: str, name: str = "JOB") -> str:
    """The hex digits of a job's id, or the first of them. WrongInput names `name`."""
    return _digits(text, name, "job")


def lease_digits(text: str, name: str = "LEASE") -> str:
    """The hex digits of a lease's id, or the first of them. WrongInput names `name`."""
    return _digits(text, name, "lease")


def _digits(text: str, name: str, what: str) -> str:
    digits = text.removeprefix("0x").lower()
    if not _LEAST_DIGITS <= len(digits) <= _DIGITS or set(digits) - _HEX:
        shown = text if len(text) <= _DIGITS + 2 else text[:_DIGITS] + "..."
        raise WrongInput(
            f"{name}: {shown!r} is not a {what} id; give at least {_LEAST_DIGITS} of its hex digits"
        )
    return digits
