# SPDX-License-Identifier: Apache-2.0
"""The base machine and its scenarios."""

from tests.contracts.stateful.machine import MarketMachine
from tests.contracts.stateful.profiles import chosen
from tests.contracts.stateful.scenarios import ExitRushMachine, SlashingMachine, SmallJobsMachine

TestMarket = MarketMachine.TestCase
TestMarket.settings = chosen()

TestSlashing = SlashingMachine.TestCase
TestSlashing.settings = chosen()

TestSmallJobs = SmallJobsMachine.TestCase
TestSmallJobs.settings = chosen()

TestExitRush = ExitRushMachine.TestCase
TestExitRush.settings = chosen()
