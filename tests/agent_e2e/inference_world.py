# SPDX-License-Identifier: Apache-2.0
"""A provider of paid inference with its agent as a process, in front of a model server that is
played, and a buyer that goes on whatever becomes of the agent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.market.ports import free_port
from teraproof.protocol import channels, messages, x402
from teraproof.protocol.channels import ChannelConfig, DepositAuthorization
from teraproof.protocol.inference import RECEIPT_HEADER, SignedReceipt, receipt_domain
from teraproof.protocol.payments import Deposit, Kind, Payment
from tests.agent_e2e.chain import USD, deployment
from tests.agent_e2e.world import World
from tests.support.anvil import Anvil
from tests.support.model_server import ModelServer, running

MODEL = "tiny"
DEPOSIT = USD
_BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 10,
}


@dataclass
class InferenceWorld(World):
    """See the module."""

    server: ModelServer = field(default_factory=ModelServer)
    coin_price: str = "0"
    """Gas costs nothing: what is owed is claimed whatever it is."""
    claim_hours: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        self.paid_port = free_port()

    @property
    def paid_url(self) -> str:
        """Where requests are paid."""
        return f"http://127.0.0.1:{self.paid_port}"

    def configure(self) -> Path:
        """Serve a model for pay."""
        config = super().configure()
        price = f'coin_price = "{self.coin_price}"\n\n[operator]'
        text = config.read_text().replace("[operator]", price, 1)
        config.write_text(
            f"""{text}
[inference]
host = "127.0.0.1"
port = {self.paid_port}
public_url = "{self.paid_url}"
claim_hours = {self.claim_hours}

[inference.models.{MODEL}]
upstream = "{self.server.url}"
prompt_price = "15"
completion_price = "60"
"""
        )
        return config

    def balance(self, account: str) -> int:
        """Units of the payment token of an account."""
        return int(self.payment.read("balanceOf", account))

    def received(self) -> tuple[int, int]:
        """What was claimed for the provider, and what was paid out to it."""
        asked = self.owner.address, self.payment.address
        claimed, settled = self.deployment.channels.read("receivers", *asked)
        return int(claimed), int(settled)

    def waiting(self) -> int:
        """Transactions of the agent that are under way."""
        waits = "SELECT 1 FROM intents WHERE state NOT IN ('final', 'reverted', 'abandoned')"
        return len(self.rows(waits))

    def check_sent_once(self) -> Counter[str]:
        """Each call was sent once and none failed; how many there were of each."""
        rows = self.rows("SELECT object_id, action, state FROM intents")
        assert {state for _, _, state in rows} <= {"final"}, rows
        known = Counter((str(about), str(action)) for about, action, _ in rows)
        assert set(known.values()) == {1}, known
        sent = self.deployment.sent_by(self.operator.address)
        assert all(went_well for _, went_well in sent), self.log()
        assert sum(sent.values()) == len(known) == self.anvil.nonce(self.operator.address)
        return Counter(action.partition("-")[0] for _, action in known)


@contextmanager
def timely_world(folder: Path) -> Iterator[InferenceWorld]:
    """An agent at work on a chain whose time is that of the machine, as clients of x402 believe."""
    chain = Anvil(block_time=1, arguments=["--mixed-mining"])
    with running() as server, deployment(chain) as contracts:
        made = InferenceWorld(folder, contracts, server=server)
        made.set_up()
        made.start_agent()
        try:
            yield made
        finally:
            made.close()


@dataclass
class Buyer:
    """A payer with one channel. It knows what it was charged by its receipts, and by what the
    provider shows when it is out of step.
    """

    world: InferenceWorld
    account: LocalAccount = field(default_factory=Account.create)
    charged: int = 0
    receipts: dict[int, SignedReceipt] = field(default_factory=dict)
    ceiling: int = 0
    """The most that a request can cost."""
    faults: Counter[str] = field(default_factory=Counter)
    withdraws: bool = False
    _deposit: Deposit | None = None
    _has_deposit: bool = False

    def __post_init__(self) -> None:
        world = self.world
        world.anvil.set_balance(self.account.address, 10**18)
        world.deployment.transact(
            world.payment.call(self.account, "mint", self.account.address, 10 * USD)
        )
        self.config = ChannelConfig(
            payer=self.account.address,
            payer_authorizer=self.account.address,
            receiver=world.owner.address,
            receiver_authorizer=world.operator.address,
            token=world.payment.address,
            withdraw_delay=86_400,
            salt=bytes(32),
        )
        self.channel = channels.channel_id(world.anvil.chain_id, self.config)
        _, name, version, *_ = world.payment.read("eip712Domain")
        self._token = messages.Domain(world.anvil.chain_id, world.payment.address, name, version)

    # ------------------------------------------------------------------ paying

    def voucher(self, amount: int, chain_id: int | None = None) -> x402.SignedVoucher:
        """Signed by the payer."""
        domain = channels.channels_domain(chain_id or self.world.anvil.chain_id)
        signature = messages.sign(domain, channels.Voucher(self.channel, amount), self.account)
        return x402.SignedVoucher(self.channel, amount, signature)

    def deposit(self, amount: int = DEPOSIT) -> Deposit:
        """The first one, always the same."""
        if self._deposit is None:
            said = DepositAuthorization(0, 2**40, 1)
            message = said.message(self.channel, self.account.address, amount)
            signature = messages.sign(self._token, message, self.account)
            self._deposit = Deposit(amount, said, signature)
        return self._deposit

    def payment(self, voucher: x402.SignedVoucher, **changed: Any) -> Payment:
        """With the deposit until there is an answer to it."""
        first = not self._has_deposit
        kind = Kind.DEPOSIT if first else Kind.VOUCHER
        return Payment(
            changed.get("kind", kind),
            self.config,
            voucher,
            self.deposit() if first and "kind" not in changed else None,
            changed.get("refund"),
            {},
        )

    def post(self, payment: Payment | None, **body: Any) -> httpx.Response | None:
        """One request, or the wish for a refund; None when the connection broke."""
        headers = {} if payment is None else {x402.SIGNATURE_HEADER: payment.encode()}
        url = f"{self.world.paid_url}/v1/chat/completions"
        try:
            if payment is not None and payment.kind is Kind.REFUND:
                return httpx.get(url, headers=headers, timeout=60, trust_env=False)
            return httpx.post(
                url, json={**_BODY, **body}, headers=headers, timeout=60, trust_env=False
            )
        except httpx.HTTPError:
            return None

    def ask(self) -> bool:
        """Pay for a request; whether it was served, and its receipt is here."""
        asked = self.post(None)
        if asked is None or asked.status_code != 402:
            return False
        terms = x402.Required.decode(asked.headers[x402.REQUIRED_HEADER]).accepts[0]
        self.ceiling = terms.amount
        answer = self.post(self.payment(self.voucher(self.charged + terms.amount)))
        if answer is None:
            return False
        if answer.status_code == 402:
            self._learn(x402.Required.decode(answer.headers[x402.REQUIRED_HEADER]))
            return False
        if answer.status_code != 200:
            self.faults[str(answer.status_code)] += 1
            return False
        self._has_deposit = True
        self._keep(SignedReceipt.from_header(answer.headers[RECEIPT_HEADER]))
        return True

    def _keep(self, signed: SignedReceipt) -> None:
        signed.check(receipt_domain(self.world.anvil.chain_id), self.world.operator.address)
        self.receipts[signed.receipt.number] = signed
        self.charged = max(self.charged, signed.receipt.cumulative)

    def _learn(self, required: x402.Required) -> None:
        """What the provider says of the channel."""
        self.faults[required.error] += 1
        state = required.accepts[0].state
        if state is not None and state.charged is not None:
            self.charged, self._has_deposit = state.charged, True

    def give_back(self) -> bool:
        """Ask for what is left; whether it is done."""
        payment = self.payment(self.voucher(self.charged), kind=Kind.REFUND)
        answer = self.post(payment)
        if answer is not None and answer.status_code == 402:
            self._learn(x402.Required.decode(answer.headers[x402.REQUIRED_HEADER]))
        return answer is not None and answer.status_code == 200

    # ------------------------------------------------------------------ leaving

    def begin_withdrawal(self, amount: int) -> None:
        """Announce by its own transaction that it takes so much back."""
        self._send("initiateWithdraw", self.config.abi_tuple(), amount)
        self.withdraws = True

    def end_withdrawal(self) -> None:
        """Take what is unclaimed of it."""
        self._send("finalizeWithdraw", self.config.abi_tuple())
        self.withdraws = False

    def _send(self, name: str, *arguments: Any) -> None:
        deployed = self.world.deployment
        deployed.transact(deployed.channels.call(self.account, name, *arguments))

    # ------------------------------------------------------------------ looking

    def on_chain(self) -> tuple[int, int]:
        """Balance of the channel, and what of it is claimed."""
        balance, claimed = self.world.deployment.channels.read("channels", self.channel)
        return int(balance), int(claimed)

    @property
    def paid(self) -> int:
        """What its receipts add up to."""
        return sum(one.receipt.charged for one in self.receipts.values())
