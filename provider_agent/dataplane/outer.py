# SPDX-License-Identifier: Apache-2.0
"""Which outer port belongs to which public port of a lease. It stays so over restarts."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from provider_agent import durable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """One public port of a lease, under the outer number of its specification."""

    lease: bytes
    service: str
    number: int

    def __str__(self) -> str:
        return f"{self.lease.hex()}/{self.service}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """The inverse of `str`. ValueError for anything else."""
        lease, service, number = text.split("/")
        return cls(bytes.fromhex(lease), service, int(number))


class OuterPorts:
    """The numbers, and the names of hosts, in one file. A file that cannot be read is begun again:
    then tenants find other numbers.
    """

    def __init__(self, place: Path, ports: tuple[int, int] | None) -> None:
        self._place = place
        first, last = ports or (1, 0)
        self._range = list(range(first, last + 1))
        self._ports: dict[Key, int] = {}
        self._hosts: dict[str, Key] = {}
        with contextlib.suppress(FileNotFoundError):
            try:
                self._read(json.loads(place.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                if isinstance(error, FileNotFoundError):
                    raise
                log.warning("data plane: %s cannot be read; outer ports are given again", place)

    def number(self, key: Key) -> int | None:
        """The outer port of a public port; None where all of the range are taken."""
        found = self._ports.get(key)
        if found is None:
            taken = set(self._ports.values())
            found = next((port for port in self._range if port not in taken), None)
            if found is not None:
                self._ports[key] = found
                self._write()
        return found

    def refuse(self, key: Key) -> None:
        """Another program has that port of this machine: the next call gives another."""
        self._range = [port for port in self._range if port != self._ports.get(key)]
        self._ports.pop(key, None)

    def claim(self, host: str, key: Key) -> bool:
        """Whether a name is this port's; the first that asks for it has it until its lease ends."""
        if host not in self._hosts:
            self._hosts[host] = key
            self._write()
        return self._hosts[host] == key

    def owner(self, host: str) -> Key | None:
        """Whose a name is."""
        return self._hosts.get(host)

    def keep(self, leases: Collection[bytes]) -> None:
        """Forgets all other leases."""
        ports = {key: port for key, port in self._ports.items() if key.lease in leases}
        hosts = {host: key for host, key in self._hosts.items() if key.lease in leases}
        if (len(ports), len(hosts)) != (len(self._ports), len(self._hosts)):
            self._ports, self._hosts = ports, hosts
            self._write()

    def _read(self, found: Mapping[str, Mapping[str, object]]) -> None:
        ports = {Key.parse(key): int(str(port)) for key, port in found["ports"].items()}
        self._ports = {key: port for key, port in ports.items() if port in self._range}
        self._hosts = {host: Key.parse(str(key)) for host, key in found["hosts"].items()}

    def _write(self) -> None:
        text = json.dumps(
            {
                "ports": {str(key): port for key, port in self._ports.items()},
                "hosts": {host: str(key) for host, key in self._hosts.items()},
            }
        )
        fresh = self._place.with_suffix(".new")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text)
            durable.sync(fresh)
            os.replace(fresh, self._place)
        except OSError as error:
            log.warning("data plane: outer ports cannot be kept: %s", error.strerror)
