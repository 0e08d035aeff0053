# SPDX-License-Identifier: Apache-2.0
"""The codes of errors: their names, exit codes and HTTP statuses.

A code is stable: programs decide by it. The line next to it is for people and may change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from teraproof.protocol.exits import Exit

_FAULT, _INPUT, _REFUSED, _AWAY = Exit.FAULT, Exit.INPUT, Exit.REFUSED, Exit.UNAVAILABLE


class Row(NamedTuple):
    """What a code is made of, where it does not fit on one line."""

    value: str
    exit: Exit
    status: int
    retryable: bool
    meaning: str


class Code(StrEnum):
    """Every code. Value; exit code; HTTP status, or 0 where it never travels; whether the same
    request may succeed later without any change; meaning.
    """

    _value_: str
    exit: Exit
    status: int
    retryable: bool
    meaning: str

    def __new__(cls, value: str, exit: Exit, status: int, retryable: bool, meaning: str) -> Code:
        """A member with its properties."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.exit, code.status, code.retryable, code.meaning = exit, status, retryable, meaning
        return code

    # Any program.
    FAILED = "failed", _FAULT, 0, False, "Something failed; the message says what."
    SETTINGS_INVALID = "settings_invalid", _INPUT, 0, False, "The settings are wrong or missing."
    INPUT_INVALID = "input_invalid", _INPUT, 0, False, "An option, an argument or a file is wrong."
    DECLINED = "declined", _REFUSED, 0, False, "The person at the terminal said no."
    JOB_FAILED = "job_failed", Exit.JOB_FAILED, 0, False, "The job ended without success."
    COMMAND_RUNNING = "command_running", _AWAY, 0, True, "Another command does it now."
    NOBODY_TAKES_IT = "nobody_takes_it", _REFUSED, 0, True, "No provider would take the job."
    INTERRUPTED = "interrupted", Exit.INTERRUPTED, 0, False, "Stopped by Ctrl-C."

    # The chain.
    CHAIN_UNAVAILABLE = "chain_unavailable", _AWAY, 503, True, "No node answers for the chain."
    BLOCK_UNKNOWN = "block_unknown", _AWAY, 0, True, "No node knows the block yet."
    RPC_REFUSED = "rpc_refused", _FAULT, 0, False, "A node refused the request."
    HEADER_UNFIT = "header_unfit", _FAULT, 0, False, "A block's header cannot be used."
    CONTRACT_REFUSED = "contract_refused", _REFUSED, 0, False, "A contract refused the call."
    GAS_MISSING = "gas_missing", _REFUSED, 0, False, "The account cannot pay for the gas."
    KEY_IN_USE = "key_in_use", _FAULT, 0, False, "Another program sends with the operator's key."

    # The machine.
    RUNNER_FAILED = "runner_failed", _FAULT, 0, True, "A run cannot be started or collected."
    CONTAINERS_AWAY = Row(
        "containers_away",
        _AWAY,
        503,
        True,
        "The container engine does not answer, so nothing is known of what runs.",
    )
    PROOF_INVALID = "proof_invalid", _FAULT, 0, False, "A value of a proof is out of range."
    OPENING_INVALID = "opening_invalid", _FAULT, 0, False, "An opening does not fit its proof."
    ENGINE_FAILED = "engine_failed", _FAULT, 0, False, "The device cannot make proofs."
    CHECK_WARNING = Row(
        "check_warning",
        _FAULT,
        0,
        False,
        "A start-up check found a weakness; it never ends a command.",
    )
    CHECK_SKIPPED = Row(
        "check_skipped",
        _FAULT,
        0,
        False,
        "A start-up check was not run, for want of an earlier one; it never ends a command.",
    )
    PATH_UNFIT = "path_unfit", _INPUT, 400, False, "A path that no manifest can name."

    # The agent's files.
    DATABASE_NEWER = "database_newer", _INPUT, 0, False, "A later version wrote the database."
    DATABASE_OLD = "database_old", _INPUT, 0, False, "The agent has to upgrade it first."
    DATABASE_UNKNOWN = "database_unknown", _FAULT, 0, False, "No version wrote such tables."
    DATABASE_FOREIGN = "database_foreign", _INPUT, 0, False, "Another program's database."
    DATABASE_OTHER = Row(
        "database_other",
        _INPUT,
        0,
        False,
        "The database belongs to another chain, key or deployment.",
    )
    DATABASE_DAMAGED = "database_damaged", _FAULT, 0, False, "The database is not as written."
    DATABASE_UNWRITABLE = "database_unwritable", _FAULT, 0, False, "It cannot be written or read."
    DATABASE_BUSY = "database_busy", _AWAY, 0, True, "Another program holds the database."
    DATABASE_GONE = "database_gone", _FAULT, 0, False, "The file went away while it was in use."
    DATABASE_UNFINISHED = Row(
        "database_unfinished",
        _FAULT,
        0,
        False,
        "Jobs of an earlier edition have to be finished by the version that took them.",
    )
    DISK_FULL = "disk_full", _FAULT, 0, True, "The disk is full."

    # Requests to an agent.
    BAD_REQUEST = "bad_request", _FAULT, 400, False, "Not valid HTTP, or broken off."
    BODY_INVALID = "body_invalid", _FAULT, 400, False, "The body is not the JSON object expected."
    FIELD_INVALID = "field_invalid", _FAULT, 400, False, "`details.field` has the wrong form."
    ROUTE_UNKNOWN = "route_unknown", _FAULT, 404, False, "There is no such route."
    METHOD_NOT_ALLOWED = "method_not_allowed", _FAULT, 405, False, "The route has other methods."
    TOO_SLOW = "too_slow", _AWAY, 408, True, "The body came too slowly."
    LENGTH_REQUIRED = "length_required", _FAULT, 411, False, "A Content-Length is needed."
    BODY_TOO_LARGE = "body_too_large", _FAULT, 413, False, "Longer than `details.limit` bytes."
    RANGE_INVALID = "range_invalid", _FAULT, 416, False, "The range begins after the end."
    RATE_LIMITED = "rate_limited", _AWAY, 429, True, "Too many requests of this client."
    HEADERS_TOO_LONG = "headers_too_long", _FAULT, 431, False, "The headers are too long."
    INTERNAL = "internal", _FAULT, 500, False, "A bug or a fault of the provider."
    AGENT_NOT_READY = "agent_not_ready", _AWAY, 503, True, "A readiness check fails."
    AGENT_HANGS = "agent_hangs", _AWAY, 503, True, "The agent's loop does not move."
    SERVER_BUSY = "server_busy", _AWAY, 503, True, "Too many requests of all clients."

    # Sign-in.
    SIGN_IN_INVALID = "sign_in_invalid", _FAULT, 401, False, "Not a valid EIP-4361 message."
    SIGN_IN_ELSEWHERE = "sign_in_elsewhere", _FAULT, 401, False, "Signed for another site or chain."
    SIGN_IN_EXPIRED = "sign_in_expired", _FAULT, 401, False, "The message is too old or too new."
    NONCE_UNKNOWN = "nonce_unknown", _FAULT, 401, False, "The nonce is unknown, used or expired."
    SIGNATURE_INVALID = "signature_invalid", _FAULT, 401, False, "Not signed by the address named."
    WALLET_UNDEPLOYED = Row(
        "wallet_undeployed",
        _REFUSED,
        401,
        True,
        "The contract wallet is not on the chain yet; send a transaction from it first.",
    )
    SESSION_REQUIRED = "session_required", _FAULT, 401, False, "A bearer token is needed; sign in."
    SESSION_UNKNOWN = "session_unknown", _FAULT, 401, False, "The session has ended; sign in again."
    NOT_REQUESTER = "not_requester", _REFUSED, 403, False, "Another account owns the job."
    NOT_DRAWN = "not_drawn", _REFUSED, 403, False, "No juror of the job, or its time is over."

    # Specifications and inputs.
    SPEC_INVALID = "spec_invalid", _INPUT, 422, False, "Not a valid job specification."
    SDL_INVALID = Row(
        "sdl_invalid", _INPUT, 0, False, "A file is not valid SDL; `details.faults` say why."
    )
    SDL_UNSUPPORTED = Row(
        "sdl_unsupported",
        _INPUT,
        0,
        False,
        "Valid SDL that asks for what no provider sells here; `details.faults` say what instead.",
    )
    SPEC_MISSING = "spec_missing", _AWAY, 404, True, "The agent lacks the specification."
    SPEC_QUOTA = "spec_quota", _REFUSED, 429, True, "Too many specifications without a job."
    INPUT_UNEXPECTED = Row(
        "input_unexpected",
        _REFUSED,
        403,
        True,
        "No open job or quote of the account names the input; perhaps not seen yet.",
    )
    INPUT_MISSING = "input_missing", _FAULT, 404, False, "The agent lacks the input."
    INPUTS_MISSING = Row(
        "inputs_missing",
        _AWAY,
        409,
        True,
        "`details.missing` of `details.inputs` inputs have to be uploaded first.",
    )
    DIGEST_MISMATCH = "digest_mismatch", _FAULT, 422, False, "The bytes do not hash to the name."
    UPLOAD_QUOTA = "upload_quota", _REFUSED, 413, False, "The account's uploads take too much."
    UPLOADS_BUSY = "uploads_busy", _AWAY, 429, True, "Too many uploads of the account at once."
    STORAGE_FULL = "storage_full", _REFUSED, 507, False, "The agent has no room for uploads."
    STORAGE_FAILED = "storage_failed", _REFUSED, 507, False, "The agent's disk failed."

    # Quotes.
    QUOTES_NOT_OFFERED = "quotes_not_offered", _REFUSED, 404, False, "The agent signs no quotes."
    FUNDS_MISSING = Row(
        "funds_missing",
        _REFUSED,
        409,
        False,
        "The requester has less than `details.needed` units of the payment token.",
    )
    UPLOADERS_BUSY = "uploaders_busy", _AWAY, 503, True, "Too many accounts upload for a quote."
    NOT_REGISTERED = "not_registered", _REFUSED, 503, True, "The provider is not registered."

    # Jobs.
    JOB_UNKNOWN = "job_unknown", _REFUSED, 404, True, "The agent has not seen the job."
    NOT_READY = "not_ready", _AWAY, 404, True, "There is no `details.what` of the job yet."
    FILE_UNKNOWN = "file_unknown", _FAULT, 404, False, "The result has no such file."
    RESULT_GONE = "result_gone", _FAULT, 410, False, "The provider's copy is gone or damaged."

    # Why a provider does not take a job, or how it is held up.
    ORDERS_PAUSED = "orders_paused", _REFUSED, 409, True, "New orders are paused on chain."
    NOT_OPEN = "not_open", _REFUSED, 409, False, "The order is no longer open."
    JUDGE_UNKNOWN = "judge_unknown", _REFUSED, 409, False, "Judged in a way the agent knows not."
    COURT_REFUSED = "court_refused", _REFUSED, 409, False, "The owner takes no orders for a court."
    CAPABILITY_MISMATCH = Row(
        "capability_mismatch",
        _REFUSED,
        409,
        False,
        "The order's jurors could not run its job again.",
    )
    NOT_REFUSABLE = "not_refusable", _REFUSED, 409, False, "The owner takes no refusable orders."
    SCORE_MISSING = Row(
        "score_missing", _REFUSED, 409, True, "The order asks for more proven throughput."
    )
    STAKE_MISSING = "stake_missing", _REFUSED, 409, True, "The order asks for more stake."
    COLLATERAL_OVER_LIMIT = Row(
        "collateral_over_limit",
        _REFUSED,
        409,
        False,
        "The order asks for more collateral than the owner allows.",
    )
    COLLATERAL_OVER_PRICE = Row(
        "collateral_over_price",
        _REFUSED,
        409,
        True,
        "The order asks for more collateral than its price is worth.",
    )
    COLLATERAL_TAKEN = "collateral_taken", _REFUSED, 409, True, "Other jobs hold the collateral."
    RUNTIME_NOT_OFFERED = Row(
        "runtime_not_offered",
        _REFUSED,
        409,
        False,
        "The agent lacks the runtime; `details.offered` are there.",
    )
    NETWORK_NOT_OFFERED = Row(
        "network_not_offered", _REFUSED, 409, False, "The provider gives jobs no network."
    )
    CHECKPOINTS_NOT_OFFERED = Row(
        "checkpoints_not_offered",
        _REFUSED,
        409,
        False,
        "The provider saves no checkpoints of leases.",
    )
    LIMIT_EXCEEDED = Row(
        "limit_exceeded",
        _REFUSED,
        409,
        False,
        "`details.field` is above the provider's `details.limit`.",
    )
    NOT_RUNNABLE = "not_runnable", _REFUSED, 409, False, "The runner cannot run such a command."
    LIST_MISMATCH = "list_mismatch", _REFUSED, 409, False, "The allow-list is not in the spec."
    NOT_LISTED = "not_listed", _REFUSED, 409, False, "The order is for other providers."
    ATTRIBUTE_MISSING = Row(
        "attribute_missing",
        _REFUSED,
        409,
        False,
        "The provider does not say `details.attribute` of itself.",
    )
    MACHINE_UNFIT = Row(
        "machine_unfit", _REFUSED, 409, False, "The provider has no machine with `details.wanted`."
    )
    PRICE_TOO_LOW = "price_too_low", _REFUSED, 409, True, "Below `details.least` token units."
    DURATION_TOO_SHORT = "duration_too_short", _REFUSED, 409, True, "Too little time to deliver."
    DISK_TAKEN = "disk_taken", _REFUSED, 409, True, "There is no room on the disk now."
    CORES_TAKEN = "cores_taken", _REFUSED, 409, True, "All cores are promised now."
    DEVICES_TAKEN = "devices_taken", _REFUSED, 409, True, "All GPUs are promised now."
    MEMORY_TAKEN = "memory_taken", _REFUSED, 409, True, "All memory is promised now."
    SLOTS_TAKEN = "slots_taken", _REFUSED, 409, True, "All slots are promised now."
    RUN_FAILED = "run_failed", _AWAY, 0, True, "A run failed by the provider's fault; again soon."
    SIGNED_OTHERWISE = "signed_otherwise", _FAULT, 0, False, "Another result was signed before."
    RESULT_UNSAVED = "result_unsaved", _AWAY, 0, True, "The result cannot be stored yet."
    ATTEMPTS_EXHAUSTED = "attempts_exhausted", _FAULT, 0, False, "Too many failed runs."
    TIME_EXHAUSTED = "time_exhausted", _FAULT, 0, False, "No time is left to run it."
    DEADLINE_MISSED = "deadline_missed", _FAULT, 0, False, "The deadline has passed."

    # Objects named by URIs, and checkpoints.
    URI_INVALID = "uri_invalid", _INPUT, 0, False, "Not a URI that can name an object."
    URI_REFUSED = "uri_refused", _REFUSED, 0, False, "The URI leads where it may not."
    EXTRA_MISSING = "extra_missing", _INPUT, 0, False, "An optional package is not installed."
    STORE_UNREACHABLE = "store_unreachable", _AWAY, 0, True, "The store does not answer."
    STORE_REFUSED = "store_refused", _REFUSED, 0, False, "The store refused the request."
    OBJECT_MISSING = "object_missing", _FAULT, 0, False, "The store has no such object."
    SNAPSHOT_UNSTABLE = Row(
        "snapshot_unstable", _AWAY, 0, True, "The files change faster than they can be copied."
    )
    CHECKPOINT_MISSING = "checkpoint_missing", _FAULT, 0, False, "No complete checkpoint is there."
    CHECKPOINT_DAMAGED = "checkpoint_damaged", _FAULT, 0, False, "A checkpoint is not as written."
    CHECKPOINTS_TAKEN = Row(
        "checkpoints_taken", _REFUSED, 0, False, "A later writer has taken the destination over."
    )

    # Disputes.
    NO_JURY = "no_jury", _REFUSED, 409, True, "No jury can be found for such an order now."
    NOT_JUDGED = "not_judged", _REFUSED, 0, False, "No jurors decide on the job."
    NOT_DISPUTED = "not_disputed", _REFUSED, 0, False, "There is no dispute over the job."
    NOT_LOSER = "not_loser", _REFUSED, 0, False, "The ruling is not against the account."
    TIME_OVER = "time_over", _REFUSED, 0, False, "The time in which it could be done has passed."
    NO_FAULT = "no_fault", _REFUSED, 0, False, "The statements show no fault."
    SEATS_UNFIT = "seats_unfit", _REFUSED, 0, False, "A juror cannot have such seats now."

    # Paid inference.
    PAYMENT_REQUIRED = "payment_required", _REFUSED, 402, True, "Pay, and send the request again."
    PAYMENT_UNFIT = Row(
        "payment_unfit",
        _REFUSED,
        402,
        False,
        "The payment cannot be taken; `details.fault` says why in the words of x402.",
    )
    DEPOSITS_HELD = Row(
        "deposits_held",
        _AWAY,
        503,
        True,
        "The provider pays no gas for newcomers' deposits now.",
    )
    STREAM_UNPAID = "stream_unpaid", _REFUSED, 402, False, "No voucher came, so the stream ended."
    MODEL_UNKNOWN = "model_unknown", _REFUSED, 404, False, "The provider serves no such model."
    REQUEST_UNFIT = "request_unfit", _INPUT, 422, False, "`details.field` is not sold."
    MODEL_BUSY = "model_busy", _AWAY, 503, True, "The model serves as many requests as it can."
    UPSTREAM_AWAY = "upstream_away", _AWAY, 503, True, "The model's server does not answer."
    UPSTREAM_REFUSED = Row(
        "upstream_refused",
        _REFUSED,
        400,
        False,
        "The model's server refused the request, which costs nothing.",
    )

    # What a gateway finds.
    BUDGET_SPENT = "budget_spent", _REFUSED, 0, False, "A budget of gateway.toml is used up."
    RECEIPT_INVALID = "receipt_invalid", _FAULT, 0, False, "A provider's receipt does not hold."
    HOSTS_EXHAUSTED = "hosts_exhausted", _AWAY, 0, True, "No host of the model has answered."

    # Leases.
    LEASE_UNFIT = "lease_unfit", _INPUT, 422, False, "A lease cannot be contained as it is asked."
    IMAGE_UNFIT = "image_unfit", _REFUSED, 422, False, "An image cannot be had, or not kept."
    IMAGE_GIVEN_UP = "image_given_up", _AWAY, 0, True, "The fetch of an image was given up."
    LEASE_UNKNOWN = "lease_unknown", _REFUSED, 404, True, "The agent has not seen the lease."
    NOT_TENANT = "not_tenant", _REFUSED, 403, False, "Another account rents the lease."
    LEASE_OVER = "lease_over", _REFUSED, 409, False, "The lease has ended."
    LEASE_DOWN = "lease_down", _AWAY, 0, True, "A container of the lease does not run."
    IMAGES_MISSING = Row(
        "images_missing", _AWAY, 409, True, "The agent fetches `details.missing` images first."
    )
    LOGINS_MISSING = Row(
        "logins_missing",
        _REFUSED,
        0,
        True,
        "A registry or a store wants credentials that the tenant has not sent.",
    )
    PRICE_UNKNOWN = "price_unknown", _AWAY, 503, True, "The provider names no price now."
    LEASE_UNCONFIRMED = "lease_unconfirmed", _REFUSED, 409, True, "Confirm the lease first."
    PORT_UNKNOWN = "port_unknown", _REFUSED, 404, False, "The lease has no such port or container."
    SERVICE_AWAY = "service_away", _AWAY, 503, True, "The container does not run or answer."
    CERTIFICATE_UNFIT = "certificate_unfit", _INPUT, 422, False, "A certificate or key is unfit."
    LEASE_FAILED = Row(
        "lease_failed",
        Exit.JOB_FAILED,
        0,
        False,
        "The lease ended before its tenant could work in it, or was rejected.",
    )
    CHALLENGE_BUSY = Row(
        "challenge_busy", _AWAY, 429, True, "A challenge of the lease runs, or ran lately."
    )
    CHALLENGE_UNKNOWN = Row(
        "challenge_unknown", _FAULT, 409, False, "No challenge of the lease waits for this step."
    )
    CHALLENGE_FAILED = Row(
        "challenge_failed", _AWAY, 503, True, "The devices of the lease did not answer."
    )

    # What a client finds.
    AGENT_UNREACHABLE = "agent_unreachable", _AWAY, 0, True, "The agent does not answer."
    CERTIFICATE_UNBOUND = "certificate_unbound", _FAULT, 0, False, "Not the operator's certificate."
    ANSWER_INVALID = "answer_invalid", _FAULT, 0, False, "Not the answer of a Teraproof agent."
    QUOTE_INVALID = "quote_invalid", _FAULT, 0, False, "The quote is not what was asked for."
    RESULT_MISMATCH = "result_mismatch", _FAULT, 0, False, "Not what was attested on chain."
    CODE_UNKNOWN = "code_unknown", _FAULT, 0, False, "A code that this version does not know."


_CODES = {code.value: code for code in Code}


def known(name: str) -> Code:
    """The code of this name; CODE_UNKNOWN for one of a newer version."""
    return _CODES.get(name, Code.CODE_UNKNOWN)
