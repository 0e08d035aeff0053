# SPDX-License-Identifier: Apache-2.0
"""Writes a database with the store on PYTHONPATH and prints it as SQL. See README.md next to it.

It uses only what every version of the store has had.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account import Account

from provider_agent.modules.all import open_store
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import QuoteRow, RunStage
from provider_agent.modules.proofs.repository import ProofsRepository
from provider_agent.store import IntentKey, IntentState, Mined, SeenLog, Store, Transaction
from teraproof.protocol.terms import Order, Terms

KEY = Account.from_key(b"\x02" * 32)
OWNER, TENANT = "0x" + "11" * 20, Account.from_key(b"\x03" * 32).address
OTHER, JOBS = "0x" + "22" * 20, "0x" + "0B" * 20
NOW = 1_795_000_000
PAY = 2**70  # more than SQLite's integers hold


def terms(nonce: int, spec: bytes) -> Terms:
    """Terms of a job, in the layout of the version at hand."""
    order = Order(spec, 1, PAY, 5, 600, 60, 0, 0, bytes(32), nonce)
    values: list[Any] = [TENANT, NOW, 3600, 100]
    if "paused" in Terms.__dataclass_fields__:
        values.append(0)
    values.append(order)
    return Terms(*values)


def sign(nonce: int) -> Transaction:
    """A transaction with a valid signature."""
    made = KEY.sign_transaction(
        {
            "type": 2, "chainId": 31337, "nonce": nonce, "to": b"\x0b" * 20, "value": 0,
            "data": b"call", "gas": 100_000, "maxFeePerGas": 20, "maxPriorityFeePerGas": 1,
        }
    )  # fmt: skip
    raw = bytes(made.raw_transaction)
    return Transaction(bytes(made.hash), nonce, "call", raw, 100_000, 20, 1, NOW)


def mined(nonce: int) -> Mined:
    """Where the transaction with this nonce was found."""
    return Mined(sign(nonce).hash, 50 + nonce, bytes([nonce]) * 32, 1, 40_000, 15)


def fill(store: Store) -> None:
    """At least one row in every table."""
    store.bind(chain="31337", operator=KEY.address, jobs=JOBS, staking="0x" + "0A" * 20)
    store.set_meta("nonce_floor", "5")
    store.set_meta("quotes.last_nonce", str(2**100))
    store.set_cursor("events", 70, b"\x70" * 32, keep=64)
    nonce = 5

    def send(job: bytes, action: str, *states: IntentState) -> None:
        nonlocal nonce
        key = IntentKey("jobs", job.hex(), action)
        intent = store.add_intent(key, JOBS, action.encode(), deadline=NOW + 600)
        for state in states:
            if state is IntentState.SIGNED:
                store.set_intent_state(intent.id, state, sign=sign, first_nonce=5)
            elif state is IntentState.MINED:
                store.set_intent_state(intent.id, state, mined=mined(nonce))
            else:
                store.set_intent_state(intent.id, state)
        nonce += bool(states)

    done = (IntentState.SIGNED, IntentState.SENT, IntentState.MINED, IntentState.FINAL)
    for number, name in enumerate(("ended", "running", "open", "others"), start=1):
        body = b'{"name":"%s"}' % name.encode()
        spec = hashlib.sha256(body).digest()
        Jobs(store).put_spec(spec, body, TENANT)
        said = terms(number, spec)
        job = said.job_id()
        Jobs(store).add_job(job, encode([Terms.ABI], [said.abi_tuple()]), TENANT, spec, 1)
        store.add_seen_log("events", SeenLog(bytes([number]) * 32, 0, 60 + number, job))
        if name == "ended":
            for action in ("accept", "attest", "finalize"):
                send(job, action, *done)
            run = Jobs(store).add_run(f"{job.hex()}-1-0", job)
            Jobs(store).set_run_state(run.run_id, RunStage.RUNNING)
            Jobs(store).set_run_state(run.run_id, RunStage.EXITED, exit_code=0, reason="exited")
            Jobs(store).set_run_state(
                run.run_id, RunStage.COLLECTED, result=b"\x01" * 32, receipt=b"\x02" * 32
            )
            Jobs(store).update_job(
                job, status=4, provider=OWNER, price=PAY, assigned_at=NOW + 1,
                attested_at=NOW + 9, started=NOW + 2, finished=NOW + 8, result=b"\x01" * 32,
                receipt=b"\x02" * 32, settled_at=NOW + 4000, note="paid",
            )  # fmt: skip
        elif name == "running":
            send(job, "accept", *done)
            send(job, "attest", IntentState.SIGNED, IntentState.SENT)
            run = Jobs(store).add_run(f"{job.hex()}-1-1", job)
            Jobs(store).set_run_state(run.run_id, RunStage.RUNNING)
            Jobs(store).update_job(job, status=2, provider=OWNER, price=PAY, assigned_at=NOW + 1)
        elif name == "open":
            send(job, "accept")
        else:
            Jobs(store).update_job(job, status=3, provider=OTHER, price=7, assigned_at=NOW + 1)
    if hasattr(store, "put_input"):
        store.put_input(hashlib.sha256(b"input").digest(), 5, TENANT)
    Jobs(store).put_quote(
        QuoteRow(
            digest=b"\x05" * 32, nonce=2**100, spec=b"\x06" * 32, requester=TENANT, price=PAY,
            collateral=2**80, duration=600, expires=NOW + 60, signature=b"\x07" * 65,
            created_at=NOW,
        )
    )  # fmt: skip
    store.create_nonce("a-log-in-nonce", NOW + 600)
    store.create_session(b"\x08" * 32, TENANT, NOW + 600)
    if hasattr(store, "add_proof"):
        ProofsRepository(store).add_proof(3, OWNER)


def main() -> None:
    """Print the dump."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agent.sqlite"
        store = open_store(path, clock=lambda: float(NOW))
        fill(store)
        store.close()
        db = sqlite3.connect(path)
        for pragma in ("application_id", "user_version"):
            print(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]};")
        print("\n".join(db.iterdump()))
        db.close()


if __name__ == "__main__":
    main()
