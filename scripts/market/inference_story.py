# SPDX-License-Identifier: Apache-2.0
"""What happens in the demo of inference: a gateway buys answers of three hosts, finds the one that
serves less than it says, outlives the death of another, and pays what receipts show.

The tenant is a stranger with a key file. Its program speaks through OpenAI's own client.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_typed_data
from openai import DefaultHttpxClient, OpenAI, OpenAIError
from rich.text import Text

from scripts.market import story
from scripts.market.inference_cast import MODEL, Host, is_up
from scripts.market.ports import free_port
from scripts.market.stage import Stage
from scripts.market.typing_tenant import Tenant
from teraproof.errors import CommandError
from teraproof.market import consents, providers, registry
from teraproof.market.market import Market, transact
from teraproof.market.ui import QuietUi

USD, TPF = 10**6, 10**18
STAKE = 1_000 * TPF
MONEY = 20 * USD
STEP = 16  # tokens that one voucher pays for
SHORT, LONG = 12, 160  # tokens of an answer
MOST_QUESTIONS = 40
_QUESTION = "What is salt made of?"
_TOPICS = ("rain", "iron", "bread", "music", "the sea", "a bridge", "glass", "wool", "a clock")
CHANNELS = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
RECEIPT = (
    "bytes32 channel,uint64 number,bytes32 request,bytes32 response,bytes32 model,"
    "uint64 promptTokens,uint64 completionTokens,uint128 charged,uint128 cumulative,"
    "uint64 started,uint64 finished"
)
KEY = "sk-demo-of-an-application"


@dataclass
class Play:
    """The stage, its players, and where the gateway answers."""

    stage: Stage
    market: Market
    hosts: Sequence[Host]
    tenant: Tenant
    port: int = field(default_factory=free_port)

    @property
    def client(self) -> OpenAI:
        """OpenAI's own client, as a program of the tenant's uses it."""
        return OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            api_key=KEY,
            max_retries=0,
            timeout=60,
            http_client=DefaultHttpxClient(trust_env=False),
        )

    def host(self, owner: str) -> Host:
        """A host by its owner's address."""
        return next(one for one in self.hosts if one.address.lower() == owner.lower())

    def seen(self) -> dict[str, Mapping[str, Any]]:
        """What the gateway has measured of each host, by its name in the play."""
        (row,) = (one for one in self.client.models.list() if one.id == MODEL)
        rows = row.model_dump()["endpoints"]
        return {
            self.host(one["provider"]).name: {**one, "verdict": self.named(one["verdict"])}
            for one in rows
        }

    def named(self, line: str) -> str:
        """A line with the hosts' names in the place of their addresses."""
        for host in self.hosts:
            line = line.replace(host.address, host.name)
        return line


def tell(stage: Stage, hosts: Sequence[Host], upstreams: Sequence[str]) -> None:
    """The whole story. CommandError when something is not what the rules say."""
    stage.panel(
        "Teraproof: paid inference",
        [
            "Three hosts sell answers of one model. A gateway pays them by signed vouchers,",
            "compares what they answer, and keeps their receipts. Nobody is trusted.",
            "The model is real and very small: what it says makes little sense.",
        ],
    )
    market = story.deploy(stage)
    _enter(stage, market, hosts, upstreams)
    play = Play(stage, market, hosts, Tenant.arrive(stage, market, MONEY))
    with _gateway(play):
        _ask(play)
        _find_degraded(play)
        killed = _kill(play)
        _go_on(play, killed)
    _reconcile(play, killed)


# ---------------------------------------------------------------------- acts


def _enter(stage: Stage, market: Market, hosts: Sequence[Host], upstreams: Sequence[str]) -> None:
    ui = stage.ui
    ui.act("2  Three hosts register, stake and start their agents in front of their model servers")
    url = stage.chain.pool.endpoints[0].url
    file = registry.path_of(stage.home / "deployments", stage.chain.chain_id)
    sandbox = stage.ask_for_sandbox()
    deployer, quiet = stage.sender(stage.deployer), QuietUi()

    def prepare(host: Host) -> Path:
        host.agent.sandbox = sandbox
        operator = host.agent.init(url, file)
        stage.chain.pool.call("anvil_setBalance", [operator, hex(10**18)])
        return host.agent.consent(host.address)

    with ThreadPoolExecutor(2) as pool, stage.console.status("settings and keys"):
        signed = list(pool.map(prepare, hosts))
    for host, consent in zip(hosts, signed, strict=True):
        give = market.token.transfer(host.address, STAKE)
        transact(deployer, quiet, "transfer", market.token, give)
        agreed = consents.read(consent, market, host.address)
        sender = stage.sender(host.owner)
        providers.register(
            market, sender, quiet, agreed, max_lock_per_order=STAKE, max_locked=STAKE
        )
        providers.delegate(market, sender, quiet, host.address, STAKE)
        host.agent.start()
    stage.tick()
    for upstream in upstreams:
        stage.wait("a model server", lambda one=upstream: True if is_up(one) else None, 120)  # type: ignore[misc] # bound at once
    for host in hosts:
        stage.await_agent(host.agent)
    ui.step("three agents run: each says that it serves the same weights, at its own price")
    for host in hosts:
        ui.step(f"{host.name} asks $ {host.part.price} for a million tokens: {host.address}")


@contextmanager
def _gateway(play: Play) -> Iterator[None]:
    """Act 3 begins: the gateway, a program of the tenant's, runs until the context ends."""
    stage, tenant = play.stage, play.tenant
    stage.ui.act("3  A tenant looks who sells what, and starts its gateway")
    tenant.types("models", account=False)
    home = stage.home / "gateway"
    home.mkdir()
    (home / "app.key").touch(mode=0o600)
    (home / "app.key").write_text(KEY)
    (home / "gateway.toml").write_text(_settings(play))
    words = ("gateway", "run", "--config", "gateway/gateway.toml")
    tenant.show(*words)
    with (home / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            tenant.command(*words),
            cwd=stage.home,
            env=tenant.surroundings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        stage.wait("the gateway", lambda: _up(play, process), 60)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _ask(play: Play) -> None:
    """A prompt is answered as a stream, and its receipt verifies without anything of ours."""
    ui, console = play.stage.ui, play.stage.console
    ui.step(f"OpenAI's own client, pointed at it, asks: {_QUESTION}")
    owner, text = _stream(play, _QUESTION, shown=True)
    console.print()
    host = play.host(owner)
    row = play.stage.wait("the receipt", lambda: _receipt(play, owner), 20)
    signer = _signer(row["receipt"], play.stage.chain.chain_id)
    ui.step(f"{host.name} answered, the cheapest; {row['completion_tokens']} tokens")
    ui.step(f"its receipt is signed by {signer}, its operator, as eth_account alone shows")
    if not text:
        raise CommandError("the answer is empty")


def _find_degraded(play: Play) -> None:
    """Every request goes to a second host as well, until a verdict falls."""
    ui = play.stage.ui
    ui.act("4  Answers are compared: who serves less than it says is found")
    cheapest = play.hosts[0]
    with play.stage.console.status("questions"):
        for number in range(1, MOST_QUESTIONS + 1):
            _short(play, number)
            fault = play.seen()[cheapest.name]["verdict"]
            if play.seen()[cheapest.name]["valid"] == 0:
                break
        else:
            raise CommandError(f"{MOST_QUESTIONS} questions, and {cheapest.name} is not found")
    ui.step(f"after {number} questions: {cheapest.name}: {fault}")
    owner, _ = _short(play, 0)
    ui.step(f"traffic has moved: the next question was answered by {play.host(owner).name}")
    if play.host(owner) is cheapest:
        raise CommandError("the degraded host still gets requests")
    _show(play)


def _kill(play: Play) -> Host:
    """The machine of the host that is answering loses power in the middle of a stream."""
    ui = play.stage.ui
    ui.act("5  A host dies while it streams")
    killed: list[Host] = []
    pieces = 0
    try:
        with play.client.chat.completions.with_streaming_response.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Write a long story about a river."}],
            max_tokens=LONG,
            temperature=0,
            stream=True,
        ) as answer:
            host = play.host(answer.headers["teraproof-provider"])
            for line in answer.iter_lines():
                pieces += line.startswith("data:")
                if pieces == STEP + STEP // 2 and not killed:
                    host.agent.kill()
                    killed.append(host)
                    ui.step(f"kill -9 after {pieces} pieces: {host.name} is gone")
                if '"error"' in line:
                    ui.step(f"the program gets one clean error: {_error(line)}")
    except (OpenAIError, httpx.HTTPError) as error:
        ui.step(f"the program gets one clean error: {error}")
    if not killed:
        raise CommandError("the answer was over before its host died")
    return killed[0]


def _go_on(play: Play, killed: Host) -> None:
    owner, _ = _short(play, MOST_QUESTIONS + 1)
    play.stage.ui.step(f"the next question was answered by {play.host(owner).name}")
    if play.host(owner) is killed:
        raise CommandError("a dead host has answered")
    _show(play)


def _reconcile(play: Play, killed: Host) -> None:
    """Every unit: what receipts show, what was claimed, and what came back."""
    stage, market, ui = play.stage, play.market, play.stage.ui
    ui.act("6  Hosts claim, deposits come back, and every unit is held against the receipts")
    killed.agent.start()
    stage.await_agent(killed.agent)
    ui.step(f"{killed.name} is back, with every voucher that it had")
    rows = _log(play)
    play.tenant.types("channel", "refund", "--config", "gateway/gateway.toml")
    shown = {
        host.address: sum(
            int(row["cost"]) for row in rows if row["provider"].lower() == host.address.lower()
        )
        for host in play.hosts
    }
    stage.wait("the payouts", lambda: _paid(play, shown, killed), 60)
    grid, wrong = [], False
    for host in play.hosts:
        earned = market.payment_balance(host.address)
        extra = earned - shown[host.address]
        step = STEP * int(float(host.part.price)) if host is killed else 0
        wrong = wrong or not 0 <= extra <= step
        grid.append([host.name, market.show_price(shown[host.address]), market.show_price(earned)])
    left = market.payment_balance(play.tenant.address)
    spent = MONEY - left
    earned = sum(market.payment_balance(host.address) for host in play.hosts)
    grid.append(
        ["the tenant spent", market.show_price(sum(shown.values())), market.show_price(spent)]
    )
    stage.grid("Dollars", ["", "by receipts", "on the chain"], grid)
    if wrong or spent != earned:
        raise CommandError("a balance is not what the receipts say; see above")


# ---------------------------------------------------------------------- parts


def _settings(play: Play) -> str:
    names = "\n".join(f'{host.name.lower()} = "{host.address}"' for host in play.hosts)
    return f"""[listen]
port = {play.port}

[pay]
total = "15"
per_provider = "5"
deposit = "1"
step_tokens = {STEP}

[route]
canary_rate = 1.0
private_networks = ["127.0.0.0/8"]
refresh_seconds = 5

[names]
{names}

[keys.demo]
file = "app.key"
budget = "5"
"""


def _up(play: Play, process: subprocess.Popen[bytes]) -> bool | None:
    if process.poll() is not None:
        log = (play.stage.home / "gateway" / "gateway.log").read_text().strip()
        raise CommandError(f"the gateway has ended: {log.splitlines()[-1] if log else ''}")
    try:
        url = f"http://127.0.0.1:{play.port}/healthz"
        answer = httpx.get(url, trust_env=False, timeout=5)
    except httpx.HTTPError:
        return None
    found = answer.status_code == 200 and answer.json()["hosts"] == len(play.hosts)
    return True if found else None


def _stream(play: Play, question: str, *, shown: bool) -> tuple[str, str]:
    """The owner of the host that answered a question, and the answer."""
    text = ""
    raw = play.client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        max_tokens=40,
        temperature=0,
        logprobs=True,
        top_logprobs=5,
        stream=True,
    )
    if shown:
        play.stage.console.print("    ", end="")
    for chunk in raw.parse():
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        text += piece
        if shown:
            play.stage.console.print(Text(piece.replace("\n", " "), style="italic"), end="")
    return raw.headers["teraproof-provider"], text


def _short(play: Play, number: int) -> tuple[str, str]:
    topic = _TOPICS[number % len(_TOPICS)]
    raw = play.client.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": f"Question {number}: what is {topic}?"}],
        max_tokens=SHORT,
        temperature=0,
        logprobs=True,
        top_logprobs=5,
    )
    return raw.headers["teraproof-provider"], raw.parse().choices[0].message.content or ""


def _show(play: Play) -> None:
    rows = []
    for name, one in play.seen().items():
        latency, speed = one["latency_seconds"], one["throughput_tokens"]
        rows.append(
            [
                name,
                play.host(one["provider"]).part.price,
                "-" if latency is None else f"{latency:.2f} s",
                "-" if speed is None else f"{speed:.0f}/s",
                f"{100 * one['valid']:.0f} %",
                str(one["verdict"]),
            ]
        )
    columns = ["host", "$ a million", "first token", "speed", "trusted", "verdict"]
    play.stage.grid("What the gateway has seen", columns, rows)


def _log(play: Play) -> list[dict[str, Any]]:
    """The gateway's rows, the newest first."""
    said = play.tenant.types(
        *("gateway", "log", "--json", "--last", "10000", "--config", "gateway/gateway.toml"),
        account=False,
        shown=False,
    )
    return list(json.loads(said)["requests"])


def _receipt(play: Play, owner: str) -> dict[str, Any] | None:
    """The newest row of a host that has a receipt."""
    mine = (row for row in _log(play) if row["provider"].lower() == owner.lower())
    return next((row for row in mine if row["receipt"]), None)


def _signer(signed: Mapping[str, Any], chain_id: int) -> str:
    """Who signed a receipt, by eth_account alone: nothing of Teraproof checks it."""
    domain = {
        "name": "Teraproof",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": CHANNELS,
    }
    members = [part.split() for part in RECEIPT.split(",")]
    types = {"Receipt": [{"name": name, "type": kind} for kind, name in members]}
    message = {
        name: bytes.fromhex(value[2:]) if kind == "bytes32" else int(value)
        for kind, name in members
        for value in [signed["receipt"][name]]
    }
    signable = encode_typed_data(domain, types, message)
    return str(Account.recover_message(signable, signature=signed["signature"]))


def _error(line: str) -> str:
    return str(json.loads(line.removeprefix("data:").strip())["error"]["message"])


def _paid(play: Play, shown: Mapping[str, int], killed: Host) -> bool | None:
    for host in play.hosts:
        if play.market.payment_balance(host.address) < shown[host.address]:
            return None
    return True
