# SPDX-License-Identifier: Apache-2.0
"""Steps of an acceptance challenge, asked of a provider's agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from teraproof.acceptance import messages
from teraproof.acceptance.format import Work
from teraproof.acceptance.messages import Step
from teraproof.client.transport import Transport
from teraproof.errors import LocalError, RemoteError
from teraproof.protocol.errors import Code

# Another request of ours, or of others, is in the way.
_CROWDED = (Code.RATE_LIMITED, Code.SERVER_BUSY)
_PAUSE = 0.5


class ChallengedLease:
    """One lease of the account, as an `Examinee`: the agent answers for it.

    An agent holds a request for some seconds, and says how far it is. It is asked again at once,
    with the same nonce, until the answer is whole. One that has too many requests at once is asked
    again after a pause.
    """

    def __init__(
        self,
        http: Transport,
        lease: bytes,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http, self._clock, self._sleep = http, clock, sleep
        self._path = f"/v1/leases/0x{lease.hex()}/challenge"

    def step(self, step: Step, nonce: bytes, work: Work) -> Mapping[str, Any]:
        """The whole answer to a step. LocalError when there is none within `work.seconds`."""
        body = {
            "step": step.value,
            "nonce": nonce.hex(),
            "work": messages.work_to_json(work) if step is Step.FILL else "",
        }
        until = self._clock() + work.seconds
        while True:
            try:
                found = self._http.json("POST", self._path, body, limit=messages.most_bytes(work))
            except RemoteError as error:
                if error.code not in _CROWDED or self._clock() + _PAUSE > until:
                    raise
                self._sleep(_PAUSE)
                continue
            if found.get("done") is True:
                answer = found.get("answer")
                if not isinstance(answer, dict):
                    raise messages.malformed("there is no answer in it")
                return answer
            if self._clock() > until:
                raise LocalError(
                    f"{self._http.base_url}: no answer to {step} within {work.seconds} s; its "
                    "devices are too slow or busy",
                    Code.AGENT_UNREACHABLE,
                )
