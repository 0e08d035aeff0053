# SPDX-License-Identifier: Apache-2.0
"""How long a lease may take to be ready, where its owner and its tenant have said nothing."""

from __future__ import annotations

import click

from provider_agent.modules.leases.settings import LeasesSettings
from teraproof.amounts import seconds
from teraproof.cli.lease_group import order_options

SILENCE = 600  # seconds in which no node answers, and nothing may be lost
REST = 120  # seconds for the containers of images that are here, and for the transaction


def test_ready_time__ten_minutes_without_a_node__end_before_it() -> None:
    assert LeasesSettings().ready_seconds >= SILENCE + REST


def test_ready_time__an_order_without_it__leaves_a_provider_what_it_wants() -> None:
    @click.command
    @order_options
    def order(**_: object) -> None:
        """Has the options."""

    (option,) = (one for one in order.params if one.name == "ready_within")
    assert seconds(str(option.default), "--ready-within") >= LeasesSettings().ready_seconds
