# SPDX-License-Identifier: Apache-2.0
"""Which addresses a machine has, as its kernel knows them: Ray knows one of them."""

from __future__ import annotations

from pathlib import Path

_TABLE = Path("/proc/net/fib_trie")


def own_addresses(table: Path = _TABLE) -> list[str]:
    """The IPv4 addresses of this machine's interfaces; none where its kernel does not say."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return []
    found, address = set(), ""
    for line in lines:
        _, leaf, said = line.partition("|-- ")
        if leaf:
            address = said.strip()
        elif line.strip() == "/32 host LOCAL":
            found.add(address)
    return sorted(found)
