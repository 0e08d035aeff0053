# SPDX-License-Identifier: Apache-2.0
"""An operator's signed agreement to work for an owner, as the owner gets it in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from teraproof.errors import LocalError, WrongInput, of_file
from teraproof.market.market import Market
from teraproof.protocol import signatures
from teraproof.protocol.messages import OperatorConsent, recover
from teraproof.protocol.terms import address


@dataclass(frozen=True)
class Consent:
    """An operator's signed agreement to work for an owner."""

    message: OperatorConsent
    signature: bytes
    endpoint: str | None
    """Where the agent that signed it is reached, if it said so."""


def read(path: Path, market: Market, owner: str) -> Consent:
    """The file that `provider-agent consent` writes. WrongInput when it does not fit."""
    try:
        return _read(path, market, owner)
    except WrongInput as error:
        error.details["path"] = str(path)
        raise


def _read(path: Path, market: Market, owner: str) -> Consent:
    try:
        given = json.loads(path.read_text())
        message = OperatorConsent(
            given["owner"], given["operator"], given["nonce"], given["expires"]
        )
        signature = signatures.normalised(signatures.read(given["signature"]))
        chain_id, staking = given["chain_id"], address("staking", given["staking"])
        endpoint = given.get("endpoint")
        signer = recover(market.staking_domain, message, signature)
    except OSError as error:
        raise of_file(error, path, "cannot read") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WrongInput(f"{path}: not a consent; make one with provider-agent consent") from None
    except LocalError as error:
        raise WrongInput(f"{path}: {error}") from None
    here = market.chain.chain_id
    if chain_id != here or staking != market.staking.address:
        raise WrongInput(
            f"{path}: for Staking {staking} on chain {chain_id}, "
            f"but this is {market.staking.address} on chain {here}"
        )
    if message.owner != owner:
        raise WrongInput(f"{path}: names the owner {message.owner}, but --account is {owner}")
    if signer != message.operator:
        raise WrongInput(f"{path}: not signed by its operator {message.operator}")
    if message.expires < market.now():
        raise WrongInput(f"{path}: has expired; make a new one with provider-agent consent")
    _check_unused(market, path, message)
    return Consent(message, signature, endpoint if isinstance(endpoint, str) else None)


def _check_unused(market: Market, path: Path, consent: OperatorConsent) -> None:
    """WrongInput when a consent has been used, or another one of its operator since."""
    due = market.staking.consent_nonce(consent.operator, "latest")
    if consent.nonce == due:
        return
    bound = market.staking.operator_of(consent.owner, "latest") == consent.operator
    if consent.nonce == due - 1 and bound:
        raise WrongInput(
            f"{path}: was used already: {consent.operator} works for {consent.owner}; see provider "
            "status"
        )
    what = "was bound since, by this consent or another"
    if consent.nonce > due:
        what = "comes to that later"
    raise WrongInput(
        f"{path}: {consent.operator} {what} (its number is {consent.nonce}, {due} is due); make a "
        "new one with provider-agent consent"
    )
