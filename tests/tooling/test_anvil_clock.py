# SPDX-License-Identifier: Apache-2.0
"""The chain of the tests: several threads may move its clock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.support.anvil import Anvil


def test_one_steps_while_another_moves_the_clock__both_succeed() -> None:
    with Anvil() as anvil:
        anvil.set_automine(False)
        began, blocks = anvil.timestamp(), anvil.number()

        def step() -> None:
            for _ in range(60):
                anvil.step(4)

        def jump() -> None:
            for _ in range(60):
                anvil.increase_time(4_000)

        with ThreadPoolExecutor() as both:
            for done in [both.submit(step), both.submit(jump)]:
                done.result()

        assert anvil.number() == blocks + 120
        assert anvil.timestamp() >= began + 60 * 4_000
