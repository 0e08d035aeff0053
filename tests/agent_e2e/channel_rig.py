# SPDX-License-Identifier: Apache-2.0
"""The chain's side of paid inference on the real contracts. A test plays the front: it writes into
the channel book what a payer has signed, and what was served.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.core.module import Context
from provider_agent.modules.inference.module import InferenceModule
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import Asked, ChannelRow, DepositRow
from teraproof.protocol import channels, inference, messages, payments, x402
from teraproof.protocol.channels import ChannelConfig, DepositAuthorization
from tests.agent_e2e.chain import USD, Contract, Deployment
from tests.agent_e2e.module_rig import ModuleRig

DAY = 86_400
_LONG = 2**40  # unix seconds until which an authorization is good


@dataclass
class Payer:
    """A payer with one channel."""

    rig: ChannelRig
    account: LocalAccount
    config: ChannelConfig
    salt: int = 0
    served: int = field(default=0)
    """What the front has served to it: the sum of its receipts."""

    @property
    def channel(self) -> bytes:
        """The channel's id."""
        return channels.channel_id(self.rig.anvil.chain_id, self.config)

    @property
    def row(self) -> ChannelRow:
        """The agent's row."""
        found = self.rig.book.channel(self.channel)
        assert found is not None
        return found

    def deposit(self, amount: int, *, until: int = _LONG) -> DepositRow:
        """Sign a deposit and hand it to the agent."""
        self.salt += 1
        said = DepositAuthorization(0, until, self.salt)
        message = said.message(self.channel, self.account.address, amount)
        signature = messages.sign(self.rig.token_domain, message, self.account)
        made = payments.Deposit(amount, said, signature)
        return self.rig.book.ask_deposit(self.channel, self.config, made)

    def open(self, amount: int) -> Payer:
        """A deposit that is confirmed."""
        asked = self.deposit(amount)
        self.rig.until(lambda: self.state(asked) is Asked.DONE, "deposit")
        return self

    def state(self, asked: DepositRow) -> Asked:
        """How a deposit stands."""
        found = self.rig.book.deposit(asked.nonce)
        assert found is not None
        return found.state

    def voucher(self, amount: int) -> x402.SignedVoucher:
        """Signed by the payer."""
        said = channels.Voucher(self.channel, amount)
        domain = channels.channels_domain(self.rig.anvil.chain_id)
        return x402.SignedVoucher(self.channel, amount, messages.sign(domain, said, self.account))

    def serve(self, cost: int, ceiling: int | None = None) -> None:
        """A request that costs so much, from beginning to end."""
        most = cost if ceiling is None else ceiling
        row = self.rig.book.begin(self.voucher(self.served + most), most, 2**127)
        self.served += cost
        said = inference.Receipt(
            self.channel, row.number, bytes(32), bytes(32), bytes(32), 0, 0, cost, self.served, 0, 0
        )
        domain = inference.receipt_domain(self.rig.anvil.chain_id)
        self.rig.book.end(inference.SignedReceipt.make(domain, said, self.rig.operator))

    def on_chain(self) -> tuple[int, int]:
        """Balance of the channel, and what of it is claimed."""
        balance, claimed = self.rig.channels.read("channels", self.channel)
        return int(balance), int(claimed)

    def call(self, function: str, *arguments: object, sender: LocalAccount | None = None) -> None:
        """A call of the payer about its channel."""
        self.rig.channels.send(
            sender or self.account, function, self.config.abi_tuple(), *arguments
        )

    def wallet(self) -> int:
        """Units that the payer has."""
        return self.rig.balance(self.account.address)


class ChannelRig(ModuleRig):
    """See the module."""

    def __init__(
        self, deployment: Deployment, folder: Path, coin_price: str = "0", **inference: Any
    ) -> None:
        self.coin_price = coin_price
        self.asked = {
            "models": {"m": {"upstream": "http://127.0.0.1:1/v1", "prompt_price": "1"}},
            "port": 0,
            **inference,
        }
        super().__init__(deployment, folder)
        self.payment: Contract = deployment.payment
        self.channels: Contract = deployment.channels
        self.token_domain = self._token_domain()

    def _token_domain(self) -> messages.Domain:
        _, name, version, *_ = self.payment.read("eip712Domain")
        return messages.Domain(self.anvil.chain_id, self.payment.address, name, version)

    def wanted(self) -> dict[str, Any]:
        """See `ModuleRig`."""
        return {"chain": {"jobs": self.deployment.jobs.address}, "inference": dict(self.asked)}

    def build(self, context: Context) -> InferenceModule | None:
        """See `ModuleRig`."""
        return InferenceModule.build(context)

    def start(self) -> ChannelRig:
        """A new process over the same files."""
        built = self.begin()
        assert isinstance(built, InferenceModule)
        self.module = built
        self.book = ChannelBook(self.store)
        # Looks at all channels in every cycle, whatever the machine's clock says.
        self.side._duty._every = self.side._settling._every = 0.0
        return self

    @property
    def side(self) -> Any:
        """The chain's side of the module."""
        return self.module._chain

    def payer(self, money: int = 1_000 * USD, **changed: Any) -> Payer:
        """A new payer, with money and a channel that is empty yet."""
        account: LocalAccount = Account.create()
        self.anvil.set_balance(account.address, 10**18)
        self.payment.send(account, "mint", account.address, money)
        values: dict[str, Any] = {
            "payer": account.address,
            "payer_authorizer": account.address,
            "receiver": self.owner.address,
            "receiver_authorizer": self.operator.address,
            "token": self.payment.address,
            "withdraw_delay": DAY,
            "salt": bytes(32),
            **changed,
        }
        return Payer(self, account, ChannelConfig(**values))

    def balance(self, account: str) -> int:
        """Units of the payment token that an account has."""
        return int(self.payment.read("balanceOf", account))

    def received(self) -> tuple[int, int]:
        """What was claimed for the provider, and what was paid out."""
        claimed, settled = self.channels.read("receivers", self.owner.address, self.payment.address)
        return int(claimed), int(settled)

    def told(self) -> object:
        """See `ModuleRig`."""
        return [(row.name[:8], row.balance, row.charged) for row in self.book.channels()]


@contextmanager
def channel_rig(deployment: Deployment, folder: Path, **changed: Any) -> Iterator[ChannelRig]:
    """An agent at work."""
    made = ChannelRig(deployment, folder, **changed)
    made.start()
    try:
        yield made
    finally:
        made.stop()
