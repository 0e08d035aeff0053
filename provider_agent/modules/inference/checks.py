# SPDX-License-Identifier: Apache-2.0
"""Start-up checks of paid inference: the owner's servers and our listener, and on the chain the
contract, the token, and what gas costs.
"""

from __future__ import annotations

from collections.abc import Sequence

from provider_agent.core.trial import Caution, Skipped, StartCheck, Trial
from provider_agent.core.worth import GasWorth
from provider_agent.errors import SettingsError
from provider_agent.http.server import AddressInUse, listen
from provider_agent.modules.inference.gas import CLAIM_GAS, DEPOSIT_GAS
from provider_agent.modules.inference.money import Money
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.upstream import Upstreams
from teraproof.contracts.channels import ChannelsContract
from teraproof.contracts.payment_token import AUTHORIZATION_STATE, PaymentTokenContract
from teraproof.protocol.channels import CHANNELS, COLLECTOR, Voucher, channels_domain
from teraproof.protocol.messages import digest
from teraproof.rpc.errors import ChainError, Reverted
from teraproof.rpc.fees import Pricer

_CLAIMS = 2  # that a deposit, and what is owed at most, are worth at least


class ServerChecks:
    """What is on this machine and behind it: nothing of a chain."""

    def __init__(self, wanted: InferenceSettings) -> None:
        self._wanted = wanted

    def all(self) -> Sequence[StartCheck]:
        """The checks by their names."""
        return [("paid requests", self.listener), ("models", self.servers)]

    def listener(self) -> str:
        """Our port for paid requests is free."""
        host, port = self._wanted.host, self._wanted.port
        try:
            listen(host, port, "inference.port").close()
        except AddressInUse as error:
            raise Caution(f"{error}; an agent that runs already holds it, too") from None
        return f"{host} port {port or 'any'}"

    def servers(self) -> str:
        """Each model's server answers."""
        found = Upstreams(self._wanted).look_once()
        away = [f"{one.name}: {one.detail}" for one in found if not one.ok]
        if away:
            raise Caution(f"{'; '.join(away)}; start the server, or correct the model's upstream")
        return f"answers come for {', '.join(sorted(self._wanted.models))}"


class ChannelChecks:
    """See the module."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._wanted = trial.settings.section(InferenceSettings)
        self._money: Money | None = None

    def all(self) -> Sequence[StartCheck]:
        """The checks by their names."""
        return [
            ("channels", self.contract),
            ("channels token", self.token),
            ("channels gas", self.gas),
        ]

    def contract(self) -> str:
        """The contract and the collector stand where clients look for them, with their domain."""
        pool, chain_id = self._trial.reachable(), self._trial.settings.chain.chain_id
        for name, address in (("contract", CHANNELS), ("deposit collector", COLLECTOR)):
            if not pool.code(address):
                raise SettingsError(
                    f"x402's {name} is not at {address} on chain {chain_id}: no payment channels "
                    "there; leave [inference.models] out"
                )
        try:
            made = ChannelsContract(pool, CHANNELS).get_voucher_digest(bytes(32), 1, "latest")
        except Reverted:
            made = b""
        if made != digest(channels_domain(chain_id), Voucher(bytes(32), 1)):
            raise SettingsError(f"what stands at {CHANNELS} is not x402's contract of channels")
        return f"at {CHANNELS}"

    def token(self) -> str:
        """The token takes deposits by signature, and its receiver can be paid."""
        pool = self._trial.reachable()
        self._money = money = Money.read(self._trial.settings, pool)
        probe = AUTHORIZATION_STATE.encode(money.token, bytes(32))
        try:
            AUTHORIZATION_STATE.decode_output(pool.eth_call(money.token, probe, "latest"))
        except ChainError:
            raise SettingsError(
                f"the token {money.token} has no EIP-3009: payers could not deposit; name another "
                "one in inference.token"
            ) from None
        receiver = self._receiver()
        self._try_transfer(money, receiver)
        return f"{money.pay.symbol or money.token}, paid to {receiver}"

    def _receiver(self) -> str:
        if self._wanted.receiver is not None:
            return self._wanted.receiver
        head = self._trial.reachable().head()
        return self._trial.provider(head).owner

    def _try_transfer(self, money: Money, receiver: str) -> None:
        """Some tokens refuse to pay some addresses: then nothing could be paid out."""
        pool = self._trial.reachable()
        data = PaymentTokenContract(pool, money.token).transfer(receiver, 0)
        try:
            pool.eth_call(money.token, data, "latest", CHANNELS)
        except Reverted as error:
            raise SettingsError(
                f"the token {money.token} does not pay {receiver} ({error.reason}); name another "
                "receiver in inference.receiver"
            ) from None

    def gas(self) -> str:
        """What a deposit and a claim cost now, and whether the settings bear it."""
        if self._money is None:
            raise Skipped.without("channels token")
        pay, chain = self._money.pay, self._trial.settings.chain
        pool = self._trial.reachable()
        offer = Pricer(pool.fees).offer()
        if offer is None:
            raise Skipped("nobody says what gas costs now")
        worth = GasWorth(chain, pay.unit)
        claim = worth.at(CLAIM_GAS, offer.max_fee)
        deposit = worth.at(DEPOSIT_GAS, offer.max_fee)
        line = f"a claim costs {pay.show(claim)} now, a deposit {pay.show(deposit)}"
        least = int(self._wanted.min_deposit * pay.unit)
        if least < deposit + _CLAIMS * claim:
            raise Caution(
                f"{line}; inference.min_deposit is {pay.show(least)}: payers could make this agent "
                "spend more gas than they can bring; raise it, or lower chain.coin_price to what a "
                "coin costs"
            )
        most = int(self._wanted.max_unclaimed * pay.unit)
        if most < _CLAIMS * claim:
            raise Caution(
                f"{line}; inference.max_unclaimed is {pay.show(most)}: channels would stand still "
                "before a claim is worth its gas"
            )
        return line
