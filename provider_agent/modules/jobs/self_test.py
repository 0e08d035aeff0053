# SPDX-License-Identifier: Apache-2.0
"""A trial of the whole way of a job, from the run to the attestation, without a job."""

from __future__ import annotations

import time

from provider_agent.core.module import Context
from provider_agent.runners.base import Runner
from teraproof.errors import LocalError
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_WORD

_TRIED = "jobs.self_test"  # in the store's meta: when


class SelfTest:
    """See the module; call it. Raises TeraproofError when a job could not be delivered."""

    def __init__(self, context: Context, runner: Runner, domain: messages.Domain) -> None:
        self._context, self._runner, self._domain = context, runner, domain

    def __call__(self) -> None:
        """Run something, sign for it, keep that, and see that a node and gas money are there."""
        context = self._context
        self._runner.check()
        now = int(time.time())
        nothing = messages.Attestation(ZERO_WORD, ZERO_WORD, ZERO_WORD, ZERO_WORD, now, now)
        signature = messages.sign(self._domain, nothing, context.key.account)
        if messages.recover(self._domain, nothing, signature) != context.key.address:
            raise LocalError("the operator key does not sign")
        context.store.set_meta(_TRIED, str(now))
        context.pool.head()
        if context.sender.reserve.jobs < 1:
            raise LocalError("there is no gas money to attest a job", Code.GAS_MISSING)
