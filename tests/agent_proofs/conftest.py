# SPDX-License-Identifier: Apache-2.0
"""The fixture that these tests share with the other end-to-end ones."""

from tests.agent_e2e.conftest import nursery as nursery
