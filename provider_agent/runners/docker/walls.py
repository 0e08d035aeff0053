# SPDX-License-Identifier: Apache-2.0
"""What leases can reach: rules of the kernel for every packet that comes out of their bridges.

They stand in the mangle table, where packets pass before ports of other containers are translated
and before it is decided whether they are for this machine. So one rule stops both: whatever is not
for one single other machine is dropped. Docker's own rules are in other tables; they say nothing
about the ports of this machine, and `--iptables=false` takes even those away.

The rule for a bridge that is not listed is to drop all. The rules are written in one step, so that
no packet passes between two of them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Port

_TOOLS_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 20
_IPV6 = Path("/proc/net/if_inet6")

PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",  # what clouds tell a machine about itself, keys included
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
"""Networks that are not the internet; no lease reaches them."""


@dataclass(frozen=True, order=True)
class Yard:
    """The network of one lease."""

    bridge: str
    subnet: IPv4Network
    outbound: bool


class Walls:
    """See the module. `bridges` is what the names of this agent's bridges begin with, `tag` a short
    name for its chains. `resolvers` are the name servers of leases with `outbound`.
    """

    def __init__(self, bridges: str, tag: str, resolvers: Sequence[str]) -> None:
        self._all, self._resolvers = f"{bridges}+", tuple(resolvers)
        self._out, self._in = f"TP-{tag}-OUT", f"TP-{tag}-IN"
        self._hosts: tuple[str, ...] = ()

    def shut_off(self, hosts: Collection[str]) -> None:
        """Has no lease reach these IPv4 addresses either, but for its resolvers. The next `build`
        has it stand.
        """
        self._hosts = tuple(sorted(one for one in set(hosts) if _is_public(one)))

    def rules(self, yards: Sequence[Yard]) -> str:
        """The rules, as `iptables-restore` reads them."""
        lines = ["*mangle", f":{self._out} - [0:0]", f":{self._in} - [0:0]"]

        def add(chain: str, rule: str) -> None:
            lines.append(f"-A {chain} {rule}")

        # What the agent has asked a service: its answers.
        add(self._out, "-m conntrack --ctstate ESTABLISHED -j RETURN")
        add(self._out, "-m addrtype ! --dst-type UNICAST -j DROP")
        for yard in sorted(yards):
            add(self._out, f"-i {yard.bridge} -s {yard.subnet} -d {yard.subnet} -j RETURN")
        open_yards = [yard for yard in sorted(yards) if yard.outbound]
        for yard in open_yards:
            for server in self._resolvers:
                for protocol in ("udp", "tcp"):
                    told = f"-i {yard.bridge} -s {yard.subnet} -d {server}/32 -p {protocol}"
                    add(self._out, f"{told} --dport 53 -j RETURN")
        for network in (*PRIVATE, *(f"{host}/32" for host in self._hosts)):
            add(self._out, f"-d {network} -j DROP")
        for yard in open_yards:
            add(self._out, f"-i {yard.bridge} -s {yard.subnet} -j RETURN")
        add(self._out, "-j DROP")
        # Nobody begins to talk to a lease through this machine.
        add(self._in, "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN")
        for yard in sorted(yards):
            add(self._in, f"-i {yard.bridge} -o {yard.bridge} -j RETURN")
        add(self._in, "-j DROP")
        return "\n".join([*lines, "COMMIT", ""])

    def build(self, yards: Sequence[Yard]) -> None:
        """Has exactly these rules stand. Raises RunnerError."""
        _tool(["iptables-restore", "-w", "10", "--noflush"], self.rules(yards))
        self._first("iptables", "PREROUTING", "-i", self._out)
        self._first("iptables", "FORWARD", "-o", self._in)
        if _IPV6.exists():
            self._first("ip6tables", "PREROUTING", "-i", "DROP")
            self._first("ip6tables", "FORWARD", "-o", "DROP")

    def take_down(self) -> None:
        """Takes all rules of this agent away, for an agent without leases."""
        for tool, chain, way, target in (
            ("iptables", "PREROUTING", "-i", self._out),
            ("iptables", "FORWARD", "-o", self._in),
            ("ip6tables", "PREROUTING", "-i", "DROP"),
            ("ip6tables", "FORWARD", "-o", "DROP"),
        ):
            jump = [way, self._all, "-j", target]
            if _IPV6.exists() or tool == "iptables":
                while _holds([tool, "-w", "10", "-t", "mangle", "-C", chain, *jump]):
                    _tool([tool, "-w", "10", "-t", "mangle", "-D", chain, *jump])
        for chain in (self._out, self._in):
            if _holds(["iptables", "-w", "10", "-t", "mangle", "-F", chain]):
                _tool(["iptables", "-w", "10", "-t", "mangle", "-X", chain])

    def _first(self, tool: str, chain: str, way: str, target: str) -> None:
        jump = [way, self._all, "-j", target]
        if not _holds([tool, "-w", "10", "-t", "mangle", "-C", chain, *jump]):
            _tool([tool, "-w", "10", "-t", "mangle", "-I", chain, "1", *jump])


def _is_public(host: str) -> bool:
    try:
        address = IPv4Address(host)
    except ValueError:
        return False
    return not any(address in IPv4Network(network) for network in PRIVATE)


def redirect(pid: int, ports: Sequence[Port]) -> None:
    """Has ports of a container be reached under other numbers, too. Raises RunnerError.

    The rules are in the container's own network, and go with it: at each start they are written
    again, and once. A program that ended meanwhile has no network.
    """
    place = f"/proc/{pid}/ns/net"
    for port in ports:
        rule = f"-p {port.protocol} --dport {port.inner} -j REDIRECT --to-ports {port.number}"
        if not Path(place).exists():
            return
        inside = ["nsenter", f"--net={place}", "iptables", "-w", "10", "-t", "nat"]
        if not _holds([*inside, "-C", "PREROUTING", *rule.split()]):
            _tool([*inside, "-A", "PREROUTING", *rule.split()])


def _run(command: Sequence[str], given: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which(command[0], path=_TOOLS_PATH)
    if found is None:
        raise RunnerError(f"{command[0]} is missing; install iptables, which Docker needs as well")
    try:
        return subprocess.run(
            [found, *command[1:]],
            input=given,
            env={"PATH": _TOOLS_PATH, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunnerError(f"{command[0]} does not end; another program holds the rules") from None


def _holds(command: Sequence[str]) -> bool:
    return _run(command, "").returncode == 0


def _tool(command: Sequence[str], given: str = "") -> None:
    done = _run(command, given)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise RunnerError(
            f"the walls around leases cannot be built: {command[0]}: {said[-1][:300]}; the agent "
            "needs root and the kernel's modules for iptables"
        )
