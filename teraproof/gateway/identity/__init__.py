# SPDX-License-Identifier: Apache-2.0
"""Same model, same behaviour: what the answers of a host show about the model behind it.

Everything here is arithmetic over answers that the gateway has seen: no clock, no network, no
files. `answers` and `fingerprint` read answers within bounds, `recount` counts tokens, `compare`
says what two answers to one request show, `watch` decides in sequence with stated error rates,
`validity` ranks by schemas, and `lineup` puts it together for the hosts of one model.

docs/model-identity.md has the rules, their error rates, and what was measured.
"""

from teraproof.gateway.identity.answers import Answer
from teraproof.gateway.identity.fingerprint import Fingerprint, read_logprobs
from teraproof.gateway.identity.lineup import Fault, Lineup, Verdict
from teraproof.gateway.identity.recount import Counter, TokenizerCounter

__all__ = [
    "Answer",
    "Counter",
    "Fault",
    "Fingerprint",
    "Lineup",
    "TokenizerCounter",
    "Verdict",
    "read_logprobs",
]
