# SPDX-License-Identifier: Apache-2.0
"""Who waits for the draw before it commits could choose its samples: it must be refused (I-7)."""

import boa
import pytest

from tests.contracts.actions import pass_time, register
from tests.contracts.deploy import TPF, Parameters, deploy_suite


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_commit__after_the_window__reverts(drawn, replaces):
    """Regression: with the time of the draw in its word, an epoch took commits again."""
    suite = deploy_suite(Parameters(samples=1), with_benchmark=True)
    benchmark, p = suite.benchmark, suite.parameters
    provider = register(suite, stake=5_000 * TPF, per_order=p.bond, in_all=p.bond)
    boa.env.evm.patch.prevrandao = bytes(31) + b"\x01"
    benchmark.open(0)
    if replaces:
        benchmark.commit(0, 1, bytes(32), sender=provider.operator.address)
    pass_time(p.window + p.draw_delay)
    if drawn:
        benchmark.draw(0)
    with boa.reverts("benchmark: window is over"):
        benchmark.commit(0, 2, bytes(32), sender=provider.operator.address)
