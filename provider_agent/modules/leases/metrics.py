# SPDX-License-Identifier: Apache-2.0
"""What there is to see of leases from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from provider_agent.core.metrics import Metrics, replace_all
from provider_agent.modules.leases.heartbeat import Heart
from provider_agent.modules.leases.repository import LeaseRow
from provider_agent.runners.lease import ImageRoom
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus

_STATES = ("assigned", "active", "suspended")


class LeaseMetrics:
    """The gauges of the module."""

    def __init__(self, metrics: Metrics) -> None:
        gauge = metrics.gauge
        self._leases = gauge("leases", "Leases of this provider, by how they stand.", "state")
        self._quotes = gauge("lease_quotes", "Quotes for leases that can still be used.")
        self._down = gauge("leases_down", "Leases that are paid for and do not run now.")
        self._late = gauge("leases_late", "Leases that were not ready in time.")
        self._heard = gauge(
            "lease_heartbeat_timestamp",
            "When the chain has last heard of this provider, unix seconds; 0 for never.",
        )
        self._due = gauge(
            "lease_heartbeat_due_timestamp",
            "Until when rent runs without another heartbeat, unix seconds; 0 while none runs.",
        )
        self._silent = gauge(
            "lease_silent_until_timestamp",
            "When this provider can be accused of having left, unix seconds; 0 without a lease.",
        )
        self._leaves = gauge(
            "lease_suspension_ends_timestamp",
            "When the longest suspension counts as leaving, unix seconds; 0 without one.",
        )
        self._engine = gauge("lease_engine_up", "1 while the container engine answers.")
        self._images = gauge(
            "lease_image_bytes",
            "What images take of the disk: of leases, on their way, and that no lease needs.",
            "state",
        )
        self._plane = gauge("plane_up", "1 while the data plane serves.")
        self._certificate = gauge(
            "plane_certificate_ends_timestamp",
            "When the certificate of the data plane runs out, unix seconds.",
        )
        self._refused = metrics.counter(
            "plane_refused",
            "Connections of the data plane that got nothing: no place at the tenants' door or at "
            "public ports, or streams whose request was refused.",
            "what",
        )
        self._counted: Counter[str] = Counter()

    def show_plane(self, *, up: bool, expires: int, refused: Mapping[str, int]) -> None:
        """How the data plane is; `refused` counts from its start."""
        self._plane.set(up)
        self._certificate.set(expires)
        for what, number in refused.items():
            self._refused.labels(what).inc(number - self._counted[what])
            self._counted[what] = number

    def show_heart(self, heart: Heart) -> None:
        """When the provider was heard of, and when it has to be again."""
        self._heard.set(heart.last)
        self._due.set(heart.due)
        self._silent.set(heart.silent_until)

    def show_images(self, room: ImageRoom) -> None:
        """What images take."""
        replace_all(self._images, {"held": room.held, "expected": room.expected, "idle": room.idle})

    def show(
        self,
        rows: Sequence[LeaseRow],
        up: set[str],
        quotes: int,
        max_suspension: int,
        *,
        engine: bool,
    ) -> None:
        """Set them. `up` are the leases that run, `max_suspension` is in seconds."""
        found = Counter(
            "suspended" if row.marks.suspended_at else row.status.name.lower() for row in rows
        )
        replace_all(self._leases, {state: found[state] for state in _STATES})
        paid = [row for row in rows if row.status is LeaseStatus.ACTIVE]
        self._down.set(sum(not row.marks.suspended_at and row.name not in up for row in paid))
        self._late.set(sum(row.code is Code.DEADLINE_MISSED for row in rows))
        self._quotes.set(quotes)
        # What leaves by notice ends before its suspension counts.
        since = [row.marks.suspended_at for row in paid if not row.marks.leaves_at]
        first = min(filter(None, since), default=0)
        self._leaves.set(first + max_suspension if first else 0)
        self._engine.set(engine)
