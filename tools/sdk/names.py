# SPDX-License-Identifier: Apache-2.0
"""Names that the compiler does not know: of structs outside, returned values, and mapping keys."""

from __future__ import annotations

from typing import Any

# Structs that have a type of their own, with checks and ids: where it is.
DOMAIN = {
    "Order": "teraproof.protocol.terms",
    "Terms": "teraproof.protocol.terms",
    "Record": "teraproof.protocol.terms",
    "Quote": "teraproof.protocol.messages",
    "LeaseOrder": "teraproof.protocol.lease_terms",
    "LeaseTerms": "teraproof.protocol.lease_terms",
    "LeaseQuote": "teraproof.protocol.messages",
    "Case": "teraproof.protocol.dispute",
    "Statement": "teraproof.protocol.dispute",
    "ChannelConfig": "teraproof.protocol.channels",
    "VoucherClaim": "teraproof.protocol.channels",
}
# Structs whose own name says too little outside the contract.
STRUCTS = {"Epoch": "EpochRecord", "Proof": "ProofRecord"}
# Views that return several values: the type that holds them, and their names.
TUPLES = {
    "Staking.manager_of": ("Manager", "permissions active_from removed_at"),
    "Staking.pending_commission": ("PendingCommission", "commission_bps since"),
    "Staking.lock_limits": ("LockLimits", "per_order total"),
    "Staking.stake_of": ("Stake", "active seized"),
    "Staking.pool": (
        "Pool",
        "active locked active_shares owner_shares unbonding unbonding_shares",
    ),
    "Staking.ticket": ("Ticket", "shares assets ready_at"),
    "Staking.lock_of": ("Lock", "amount expires_at"),
    "Jobs.assignment": ("Assigned", "status provider assigned_at"),
    "Leases.account": ("Account", "seconds paid affordable ends_at"),
    "Channels.channels": ("Holding", "balance total_claimed"),
    "Channels.pendingWithdrawals": ("Withdrawal", "amount initiated_at"),
    "Channels.receivers": ("Received", "total_claimed total_settled"),
    "Disputes.costs_of": ("Costs", "fee dispute_bond appeal_bond"),
    "Disputes.standing_of": ("Standing", "round phase until ruling"),
    "Benchmark.proven": ("Proven", "score epoch until"),
    "Benchmark.share_of": ("Share", "score effective total"),
    "eip712Domain": (
        "Eip712Domain",
        "fields name version chain_id verifying_contract salt extensions",
    ),
}
# The keys of public mappings.
KEYS = {
    "Staking.endpoint_digest": "provider",
    "Jobs.state": "job",
    "Deals.reserved_score": "provider",
    "Leases.state": "lease",
    "Leases.marks": "lease",
    "Leases.number_of": "provider",
    "Disputes.leaf_of": "juror capability",
    "Emissions.distributor_of": "use",
    "Emissions.distributed": "use epoch",
    "balanceOf": "account",
    "allowance": "owner spender",
    "nonces": "account",
    "authorizationState": "authorizer nonce",
    "hasRole": "role account",
    "getRoleAdmin": "role",
    "get_timestamp": "id",
}


def named(table: dict[str, Any], contract: str, name: str) -> Any:
    """An entry of one of the tables above; a contract's own goes first."""
    return table.get(f"{contract}.{name}", table.get(name))
