# SPDX-License-Identifier: Apache-2.0
"""What SDL has and no provider sells here, and what to do instead; each is refused by name."""

from __future__ import annotations

TEE = (
    "a trusted execution environment is not sold here, because no provider can prove one; leave "
    "tee out, and hire a provider that you trust by name"
)
PERMISSIONS = (
    "no container may read the cluster that it runs in; leave permissions out: the tenant gets "
    "logs and events without them"
)
ENDPOINTS = (
    "IP addresses are not leased here; leave the endpoint out and expose the port with global: true"
)
PROXY_BUFFER_SIZE = (
    "the door of a lease streams answers and has no buffer of that kind; leave proxy_buffer_size "
    "out"
)
INCLUDE = "other files are not read; write everything in this one"
VERIFICATION = (
    "nobody verifies providers by a vote or an audit here; leave verification out, and ask for "
    "a least stake and a least score when you order"
)
INTERCONNECT = (
    "GPUs of several containers are not connected here; leave it out and ask for all GPUs in one "
    "service: those are in one machine"
)
KEY_REF = "volumes with keys of their own are not sold here; leave keyRef out, and encrypt inside"
RAM = "memory is a volume at /dev/shm alone; mount it there, or take a volume on disk"

#: Said where a file asks for auditors: no fault, because stake and proofs stand for their word.
SIGNED_BY = (
    "asks nothing of a provider here, because no auditor signs on this market; what binds a "
    "provider is its stake and its proven speed, which you ask for when you order"
)
#: Said where a volume is persistent.
PERSISTENT = (
    "persistent: it outlives its container, not its lease, and never moves to another provider; "
    "keep what must last somewhere else"
)
