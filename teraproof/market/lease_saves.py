# SPDX-License-Identifier: Apache-2.0
"""A last checkpoint before a lease is closed: asked for, and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

from teraproof.amounts import show_seconds
from teraproof.errors import CommandError, RemoteError
from teraproof.market import lease_agents, lease_notes
from teraproof.market.lease_orders import expect
from teraproof.market.lease_tending import endpoint_for
from teraproof.market.leases import Lease, short
from teraproof.market.market import Market
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.market.watch import harmless
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.lease_terms import LeaseStatus

_LOOK = 2.0  # seconds between two looks
_WORD = 200


def save(
    market: Market,
    sender: Sender,
    ui: Ui,
    lease: Lease,
    within: int,
    endpoint: str | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Have the provider of an active lease of this account save its checkpoint now; its name, when
    it is in the store.

    CommandError when it is not there `within` seconds, or could not be saved: the lease goes on.
    """
    expect(lease, LeaseStatus.ACTIVE, "saved")
    if lease.terms.requester != sender.address:
        raise CommandError(
            f"lease {short(lease.lease)} belongs to {lease.terms.requester}; its tenant alone can "
            "have it saved",
            Code.NOT_TENANT,
        )
    spec = lease_notes.spec_of(lease.terms.order.spec)
    if spec is not None and spec.checkpoints is None:
        raise _not_saved(lease, "it names no checkpoints", Code.CHECKPOINTS_NOT_OFFERED)
    until, url = clock() + within, endpoint_for(market, lease, endpoint)
    ui.doing(f"{url} saves the last checkpoint, for {show_seconds(within)} at most")
    with lease_agents.connect(market, sender.signer, url) as client:
        number = 0
        while True:
            try:
                found = client.save(lease.lease, number)
            except RemoteError as refused:
                if not refused.retryable or clock() >= until:
                    raise _not_saved(lease, str(refused), refused.code) from None
            else:
                if found.done:
                    name = _shown(found.checkpoint)
                    ui.step(f"checkpoint {name} is in the store")
                    return name
                if found.trouble:
                    raise _not_saved(lease, _shown(found.trouble), Code.CHECKPOINT_MISSING)
                number = found.save
            if clock() >= until:
                line = f"it is not there after {show_seconds(within)}"
                raise _not_saved(lease, line, Code.TOO_SLOW)
            sleep(_LOOK)


def _shown(text: str) -> str:
    """A stranger's words."""
    return one_line(harmless(text), _WORD)


def _not_saved(lease: Lease, why: str, code: Code) -> CommandError:
    return CommandError(
        f"lease {short(lease.lease)} is not saved, and goes on: {why}; close it without --save, or "
        "try again",
        code,
        lease="0x" + lease.lease.hex(),
    )
