# SPDX-License-Identifier: Apache-2.0
"""What the actors do with the suite: register, stake, post, hire, attest; and what the chain said.

Messages are built and signed by the agent's own protocol package, so that these tests also show
that the contracts and the agent agree on every byte.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import boa
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from teraproof.protocol import messages
from teraproof.protocol.terms import ZERO_ADDRESS, ZERO_WORD, Order, Record, Terms, assignment_of
from tests.contracts.deploy import DAY, TPF, USD, Contract, Suite, account_of, address_of

SPEC = keccak(text="a job specification")
RESULT = keccak(text="a result")
RECEIPT = keccak(text="a receipt")
CHAIN_ID = 1
FAR = 2**63  # an expiry that no test reaches

ORDER = Order(
    spec=SPEC,
    start_price=10 * USD,
    max_price=40 * USD,
    collateral=100 * TPF,
    duration=7_200,
    auction=1_000,
    min_stake=0,
    min_score=0,
    allow_root=ZERO_WORD,
    nonce=0,
)


@dataclass(frozen=True)
class Provider:
    """A registered provider: its cold key, its hot key, and where its payouts go."""

    owner: str
    operator: LocalAccount
    payout: str


def now() -> int:
    """The timestamp of the present block, unix seconds."""
    return int(boa.env.timestamp)


def pass_time(seconds: int) -> None:
    """Mine a block `seconds` later."""
    boa.env.time_travel(seconds=seconds)


def go_to(time: int) -> None:
    """Mine a block at a time."""
    boa.env.timestamp = time


def events(contract: Contract, name: str | None = None) -> list[Any]:
    """Events of the last call to `contract`, children included, optionally of one name."""
    logs = [log for log in contract.get_logs(strict=False) if hasattr(log, "_fields")]
    return [log for log in logs if name in (None, type(log).__name__)]


def event(contract: Contract, name: str) -> dict[str, Any]:
    """The members of the one event of that name in the last call to `contract`."""
    (found,) = events(contract, name)
    members: dict[str, Any] = found._asdict()
    del members["address"]
    return members


# ------------------------------------------------------------------ signatures


def domain(contract: Contract) -> messages.Domain:
    """The EIP-712 domain of a contract of the suite."""
    return messages.Domain(CHAIN_ID, str(contract.address))


def consent(
    staking: Contract,
    owner: str,
    operator: LocalAccount,
    expires: int = FAR,
    nonce: int | None = None,
) -> tuple[int, int, bytes]:
    """Nonce, expiry and signature of the operator's consent to work for `owner`.

    They are the last arguments of `register` and `set_operator`. The nonce is the one that the
    contract waits for, unless one is given.
    """
    if nonce is None:
        nonce = int(staking.consent_nonce(operator.address))
    message = messages.OperatorConsent(owner, operator.address, nonce, expires)
    return nonce, expires, messages.sign(domain(staking), message, operator)


def sign_quote(jobs: Contract, operator: LocalAccount, quote: messages.Quote) -> bytes:
    """The operator's signature of a quote."""
    return messages.sign(domain(jobs), quote, operator)


def attestation_of(terms: Terms, **changes: Any) -> messages.Attestation:
    """What an operator attests of a job."""
    return replace(
        messages.Attestation(terms.job_id(), terms.order.spec, RESULT, RECEIPT, 1, 2), **changes
    )


def permit(
    token: Contract, owner: LocalAccount, spender: str, amount: int, deadline: int = FAR
) -> tuple[int, bytes, bytes]:
    """The EIP-2612 signature (v, r, s) over the token's present nonce of `owner`."""
    (_, name, version, chain_id, address, *_rest) = token.eip712Domain()
    signed = owner.sign_typed_data(
        {"name": name, "version": version, "chainId": chain_id, "verifyingContract": str(address)},
        {
            "Permit": [
                {"name": "owner", "type": "address"},
                {"name": "spender", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "nonce", "type": "uint256"},
                {"name": "deadline", "type": "uint256"},
            ]
        },
        {
            "owner": owner.address,
            "spender": spender,
            "value": amount,
            "nonce": token.nonces(owner.address),
            "deadline": deadline,
        },
    )
    return signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


# ----------------------------------------------------------------------- stake


def give_tpf(suite: Suite, account: str, amount: int) -> None:
    """Hand TPF out and let Staking take it."""
    suite.token.transfer(account, amount, sender=suite.faucet)
    suite.token.approve(suite.staking.address, 2**256 - 1, sender=account)


def give_usd(suite: Suite, account: str, amount: int) -> None:
    """Hand payment tokens out and let Jobs take them."""
    suite.payment.mint(account, amount)
    suite.payment.approve(suite.jobs.address, 2**256 - 1, sender=account)


def register(
    suite: Suite,
    role: str = "provider",
    *,
    stake: int = 1_000 * TPF,
    commission_bps: int = 1_000,
    per_order: int = 500 * TPF,
    in_all: int = 800 * TPF,
) -> Provider:
    """Register a provider whose keys are named after `role`, and stake for it."""
    owner, payout = address_of(role), address_of(f"{role}'s payout")
    operator = account_of(f"{role}'s operator")
    suite.staking.register(
        operator.address,
        payout,
        commission_bps,
        per_order,
        in_all,
        "https://provider.example",
        *consent(suite.staking, owner, operator),
        sender=owner,
    )
    if stake:
        delegate(suite, owner, owner, stake)
    return Provider(owner, operator, payout)


def delegate(suite: Suite, provider: str, account: str, amount: int) -> int:
    """Put `amount` TPF wei of `account` behind a provider; return the shares."""
    give_tpf(suite, account, amount)
    return int(suite.staking.delegate(provider, amount, sender=account))


def reward(suite: Suite, provider: str, amount: int) -> None:
    """Pay the reward of an epoch, as the mock that stands in for the emission."""
    suite.holder.reward(provider, amount)


# ------------------------------------------------------------------------ jobs


def order(**changes: Any) -> Order:
    """The usual order with some fields changed."""
    return replace(ORDER, **changes)


def terms_of(suite: Suite) -> Terms:
    """The terms in the `Posted` event of the last call to Jobs."""
    return Terms.from_abi(plain(event(suite.jobs, "Posted")["terms"]))


def plain(value: Any) -> Any:
    """A decoded struct as nested tuples of what the protocol package takes."""
    if isinstance(value, tuple):
        return tuple(plain(member) for member in value)
    return str(value) if isinstance(value, str) else value


def post(
    suite: Suite,
    requester: str,
    wanted: Order = ORDER,
    *,
    from_credit: bool = False,
    funded: bool = True,
) -> Terms:
    """Post a job; `funded` hands the requester the escrow first."""
    if funded:
        give_usd(suite, requester, wanted.max_price)
    job = suite.jobs.post(wanted.abi_tuple(), from_credit, sender=requester)
    terms = terms_of(suite)
    assert terms.job_id() == job
    return terms


def quote_of(provider: Provider, **changes: Any) -> messages.Quote:
    """The usual quote of a provider with some fields changed."""
    usual = messages.Quote(
        operator=provider.operator.address,
        requester=ZERO_ADDRESS,
        spec=SPEC,
        price=25 * USD,
        collateral=100 * TPF,
        duration=7_200,
        expires=now() + DAY,
        nonce=0,
    )
    return replace(usual, **changes)


def hire(
    suite: Suite,
    requester: str,
    provider: Provider,
    quote: messages.Quote | None = None,
    *,
    from_credit: bool = False,
) -> Terms:
    """Hire a provider by its quote; the requester is handed the price first."""
    quote = quote or quote_of(provider)
    give_usd(suite, requester, quote.price)
    signature = sign_quote(suite.jobs, provider.operator, quote)
    job = suite.jobs.hire(quote.abi_tuple(), signature, from_credit, sender=requester)
    terms = terms_of(suite)
    assert terms.job_id() == job
    return terms


def accept(suite: Suite, provider: Provider, terms: Terms, proof: list[bytes] | None = None) -> int:
    """Accept a job as the provider's operator; return the price."""
    return int(suite.jobs.accept(terms.abi_tuple(), proof or [], sender=provider.operator.address))


def attest(
    suite: Suite, provider: Provider, terms: Terms, *, sender: str | None = None, **changes: Any
) -> Record:
    """Attest a job; `sender` relays, `changes` replace fields of the attestation."""
    taken = assignment_of(suite.jobs.state(terms.job_id()))
    message = attestation_of(terms, **changes)
    suite.jobs.attest(
        terms.abi_tuple(),
        message.result,
        message.receipt,
        message.started,
        message.finished,
        messages.sign(domain(suite.jobs), message, provider.operator),
        sender=sender or address_of("relayer"),
    )
    # A job that nobody works on was refused by the contract.
    assert taken is not None
    return Record(taken.provider, taken.assigned_at, now(), taken.paused, message.struct_hash())


def assigned(suite: Suite, requester: str, provider: Provider, wanted: Order = ORDER) -> Terms:
    """A job that is posted and accepted in the same block."""
    terms = post(suite, requester, wanted)
    accept(suite, provider, terms)
    return terms


def attested(
    suite: Suite, requester: str, provider: Provider, wanted: Order = ORDER
) -> tuple[Terms, Record]:
    """A job that is posted, accepted and attested in the same block."""
    terms = assigned(suite, requester, provider, wanted)
    return terms, attest(suite, provider, terms)
