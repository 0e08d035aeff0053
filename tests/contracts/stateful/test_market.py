# SPDX-License-Identifier: Apache-2.0
"""The base machine and its scenarios."""

from tests.contracts.stateful.machine import MarketMachine
from tests.contracts.stateful.profiles import chosen

TestMarket = MarketMachine.TestCase
TestMarket.settings = chosen()
