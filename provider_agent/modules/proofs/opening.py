# SPDX-License-Identifier: Apache-2.0
"""Opens the samples that the draw asks of our proof, some in each transaction.

Each opening is checked in Python as the contract will check it: a wrong one is never sent.
"""

from __future__ import annotations

import logging

from provider_agent.core.attempts import Attempts
from provider_agent.modules.proofs.epochs import Facts
from provider_agent.modules.proofs.prover import Prover
from provider_agent.prover.folder import ProofFolder, Request
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.epochs import show_samples
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import OpeningError
from teraproof.pog.opening import Opening, verify
from teraproof.pog.schedule import Rules

log = logging.getLogger(__name__)


class Openings:
    """See the module. `at_once` is the number of openings in a transaction."""

    def __init__(
        self, contract: BenchmarkContract, attempts: Attempts, prover: Prover, at_once: int
    ) -> None:
        self._contract, self._attempts = contract, attempts
        self._prover, self._at_once = prover, at_once
        self._foreign: dict[bytes, bool] = {}  # commitment -> whether it is of other rounds

    def open(self, facts: Facts, rules: Rules, folder: ProofFolder, name: str) -> str:
        """Bring the openings as far as they go now; what there is to say of it."""
        proof = facts.proof
        if self._is_foreign(facts, folder):
            self._prover.stop()
            return "the commitment on chain is not to rounds of ours; it cannot be opened"
        request = Request(facts.pinned.draw, proof.rounds, rules.samples)
        folder.request(request)
        action, drawn = f"samples-{proof.verified}", f"{name}-{request.draw.hex()[:8]}"
        try:
            openings = folder.openings(request)
            if openings is None:
                self._prover.open(folder)
                return self._prover.trouble or "computing the openings"
            self._prover.stop()
            if self._attempts.may_begin(drawn, action):
                chosen = self._chosen(facts, rules, folder, openings)
                data = show_samples(self._contract, facts.owner, [o.words() for o in chosen])
                self._attempts.begin(drawn, action, data, deadline=facts.record.ends_at - 1)
        except OpeningError as error:
            log.error("proof of epoch %s: %s; computing the openings again", facts.epoch, error)
            folder.drop_openings()
            return str(error)
        return f"opening samples, {proof.verified} of {rules.samples} verified"

    def _chosen(
        self, facts: Facts, rules: Rules, folder: ProofFolder, openings: list[Opening]
    ) -> list[Opening]:
        """The next openings to send, each checked."""
        proof, task = facts.proof, folder.task()
        samples = pog.samples(
            facts.pinned.draw,
            proof.rounds,
            proof.commitment,
            task.challenge,
            task.shape,
            rules.samples,
        )
        chosen = slice(proof.verified, proof.verified + self._at_once)
        for opening, sample in zip(openings[chosen], samples[chosen], strict=True):
            verify(opening, sample, task.challenge, task.shape, proof.rounds, proof.commitment)
        return openings[chosen]

    def _is_foreign(self, facts: Facts, folder: ProofFolder) -> bool:
        """Whether the commitment on chain is to something else than the rounds in the folder."""
        commitment, rounds = facts.proof.commitment, facts.proof.rounds
        if commitment not in self._foreign:
            roots = folder.roots()[:rounds]
            if len(roots) < rounds:
                return False  # lost rounds are done again first
            self._foreign = {commitment: merkle.commitment(roots) != commitment}
        return self._foreign[commitment]
