# SPDX-License-Identifier: Apache-2.0
"""Appeals against rulings over a result of ours: whether they are worth it, and who pays."""

from __future__ import annotations

from provider_agent.core.attempts import Attempts
from provider_agent.core.pay import Pay
from teraproof.amounts import show_date
from teraproof.contracts.jobs import JobsContract
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.courts.docket import Dispute
from teraproof.rpc.types import BlockRef


class Appeals:
    """See the module. `most` is the highest bond in units of the payment token `pay`; `operator`
    pays it from its credit in Jobs, else from its account.
    """

    def __init__(
        self,
        jobs: JobsContract,
        token: PaymentTokenContract,
        operator: str,
        court: Attempts,
        payments: Attempts,
        most: int,
        pay: Pay,
    ) -> None:
        self._jobs, self._token, self._operator = jobs, token, operator
        self._court, self._payments, self._most = court, payments, most
        self._pay = pay
        #: Why the last dispute asked for cannot be appealed.
        self.why = ""

    def can(self, dispute: Dispute, block: BlockRef) -> bool:
        """Whether a ruling can be appealed; `why` says why not. Raises ChainError."""
        bond = dispute.costs.appeal_bond
        if bond > self._most:
            self.why = (
                f"lost; the bond of an appeal is {self._pay.show(bond)}, above "
                f"disputes.appeal_up_to; until {show_date(dispute.until)} the owner can run "
                f"{_command(dispute)}"
            )
            return False
        credit = self._jobs.credit_of(self._operator, block)
        if credit < bond and self._token.balance_of(self._operator, block) < bond:
            self.why = (
                f"lost; an appeal needs {self._pay.show(bond)} at {self._operator} until "
                f"{show_date(dispute.until)}: send it there, or let the owner run "
                f"{_command(dispute)}"
            )
            return False
        return True

    def begin(self, dispute: Dispute, block: BlockRef) -> None:
        """Appeal, with a permission for the token first where it is needed. Raises ChainError."""
        job, bond = dispute.case.job.hex(), dispute.costs.appeal_bond
        if self._jobs.credit_of(self._operator, block) >= bond:
            data = self._jobs.appeal(dispute.case, True)
        elif self._token.allowance(self._operator, self._jobs.address, block) < bond:
            data = self._token.approve(self._jobs.address, bond)
            self._payments.begin(job, "approve", data, deadline=dispute.until)
            return
        else:
            data = self._jobs.appeal(dispute.case)
        self._court.begin(job, "appeal", data, deadline=dispute.until)


def _command(dispute: Dispute) -> str:
    return f"`teraproof dispute appeal 0x{dispute.case.job.hex()}`"
