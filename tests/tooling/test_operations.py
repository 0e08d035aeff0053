# SPDX-License-Identifier: Apache-2.0
"""What operations/ ships works, and names nothing that is not there."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from provider_agent.cli.main import main
from provider_agent.core.metrics import Metrics
from provider_agent.runners.containment import ACCEPTED
from provider_agent.settings import load

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "operations" / "prometheus"
UNIT_TESTS = (PROMETHEUS / "alerts_test.yaml", PROMETHEUS / "alerts_days_test.yaml")
DASHBOARD = ROOT / "operations" / "grafana" / "provider-agent.json"
UNIT = ROOT / "operations" / "systemd" / "provider-agent.service"
VARIABLES = UNIT.with_suffix(".env")
CONTAINERFILE = ROOT / "operations" / "container" / "Containerfile"
PREFIX = "teraproof_agent_"
# What each way to make a metric adds to its name on the wire.
ENDINGS = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def promtool() -> str:
    own = ROOT / ".build" / "tools" / "promtool"
    found = shutil.which("promtool") or (str(own) if own.exists() else None)
    if found is None:
        pytest.skip("promtool is missing: `make promtool` (Debian), or put it on PATH")
    return found


@cache
def metrics_of_the_agent() -> set[str]:
    """Every series that the agent's sources make, by the calls that make them."""
    names = set()
    for path in sorted((ROOT / "provider_agent").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", "")).strip("_").lower()
            if called in ENDINGS:
                name = name_in(node.args[0])
                if name is not None:
                    names |= {PREFIX + name + ending for ending in ENDINGS[called]}
    return names


def name_in(node: ast.expr) -> str | None:
    """The name of a metric as a call has it: `"x"`, or `f"{PREFIX}_x"`."""
    if isinstance(node, ast.JoinedStr):
        node = node.values[-1]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.removeprefix("_")
    return None


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target


def named_in(expression: str) -> set[str]:
    return set(re.findall(rf"{PREFIX}\w+", expression))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------ names


def test_metrics_read_off_the_sources__are_those_that_the_agent_shows() -> None:
    shown = re.findall(r"^# TYPE (\S+) (\w+)", Metrics().exposition().decode(), re.M)
    ours = {(name, kind) for name, kind in shown if not name.endswith("_created")}
    known = metrics_of_the_agent()
    assert len(ours) > 10
    for name, kind in ours:
        assert (f"{name}_count" if kind == "histogram" else name) in known


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_alert__names_metrics_that_exist_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert named_in(rule["expr"]) <= metrics_of_the_agent()
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes["summary"].endswith(".") and notes["action"].endswith(".")


def test_dashboard__names_metrics_that_exist_and_shows_most_of_them() -> None:
    shown = set().union(*(named_in(target["expr"]) for _, target in targets()))
    known = metrics_of_the_agent()
    assert shown <= known
    assert len(shown) > len({name for name in known if not name.endswith(("_sum", "_count"))}) / 2


def test_names__a_metric_that_is_gone__is_found() -> None:
    assert not named_in("rate(teraproof_agent_head_blocks[5m])") <= metrics_of_the_agent()


# ------------------------------------------------------------------ rules


def test_rules__hold_their_unit_tests() -> None:
    tool = promtool()
    run(tool, "check", "rules", PROMETHEUS / "alerts.yaml")
    run(tool, "test", "rules", *UNIT_TESTS)


def test_rules__a_broken_one__fails_its_tests(tmp_path: Path) -> None:
    tool = promtool()
    rules = (PROMETHEUS / "alerts.yaml").read_text()
    broken = rules.replace('up{job="teraproof-agent"} == 0', "up == 2")
    assert broken != rules
    (tmp_path / "alerts.yaml").write_text(broken)
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())
    tests["tests"] = [test for test in tests["tests"] if "dead agent" in test["name"]]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    with pytest.raises(AssertionError, match="TeraproofAgentDown"):
        run(tool, "test", "rules", tmp_path / "test.yaml")


def test_each_alert__is_seen_to_fire_and_to_be_silent() -> None:
    tests = [test for file in UNIT_TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {rule["alert"] for rule in alerts()}
    assert fires == silent == names


# ------------------------------------------------------------------ dashboard


def test_dashboard__can_be_imported_with_any_data_source() -> None:
    board = dashboard()
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert "id" not in board, "an id would overwrite another dashboard"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for title, target in targets():
        assert target["datasource"]["uid"] == "${datasource}", title
        for series in re.findall(r"(?:\bup|teraproof_agent_\w+)(\{[^}]*\}|)", target["expr"]):
            assert '$instance"' in series and '$job"' in series, title


def test_dashboard__panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_dashboard__every_query_is_promql(tmp_path: Path) -> None:
    tool = promtool()
    rules = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$", "")}
        for number, (_, target) in enumerate(targets())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(tool, "check", "rules", file)


# ------------------------------------------------------------------ systemd


def unit() -> dict[str, list[str]]:
    """The keys of the unit and all values of each."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_unit__systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is missing")
    copy = tmp_path / UNIT.name
    # The verifier wants to see the program; here it is another one.
    copy.write_text(UNIT.read_text().replace("/opt/teraproof/bin/provider-agent", "/bin/true"))
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    # An older systemd leaves out what it does not know.
    said = [line for line in done.stderr.splitlines() if "'DelegateSubgroup'" not in line]
    assert (done.returncode, said) == (0, [])
    copy.write_text(copy.read_text().replace("KillMode=process", "KillMode=politely"))
    done = subprocess.run([tool, "verify", copy], capture_output=True, text=True, check=False)
    assert "politely" in done.stderr, "the verifier sees nothing at all"


def test_unit__a_stop_leaves_jobs_alone_and_the_sandbox_can_start() -> None:
    keys = unit()
    assert keys["KillMode"] == ["process"]
    assert "PrivateDevices" not in keys and "RestrictNamespaces" not in keys
    # Each of these covers a part of /proc, and a job could have no fresh one.
    covers = {"ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset"}
    assert not covers & set(keys)
    assert keys["NoNewPrivileges"] == ["yes"] and keys["ProtectSystem"] == ["strict"]


def test_unit__its_command_is_one_of_the_agent() -> None:
    (command,) = unit()["ExecStart"]
    program, *arguments = command.split()
    assert program.endswith("/provider-agent")
    context = main.make_context("provider-agent", arguments[:1], resilient_parsing=True)
    assert main.get_command(context, arguments[0]) is not None
    assert arguments[1:] == ["--config", "/var/lib/teraproof/provider.toml"]


def test_environment_file__names_settings_that_exist_with_values_that_fit(tmp_path: Path) -> None:
    lines = re.findall(r"^#(TERAPROOF_\w+)=(.*)$", VARIABLES.read_text(), re.M)
    assert len(lines) >= 4
    file = tmp_path / "provider.toml"
    zero = "0x" + "00" * 19 + "01"
    file.write_text(f"[chain]\nchain_id = 1\nstaking = '{zero}'\njobs = '{zero}'\n[operator]\n")
    settings = load(file, dict(lines))
    assert len(settings.chain.rpc_urls) == 2


def test_page__has_the_sentence_by_which_an_owner_accepts_jobs_without_limits() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f'runner.allow_unlimited = "{ACCEPTED}"' in page
    assert "\n### Sandbox\n" in page and "/etc/apparmor.d/bwrap" in page


# ------------------------------------------------------------------ container


def test_container__is_not_root_and_copies_what_is_there() -> None:
    text = CONTAINERFILE.read_text()
    last = text.split("\nFROM ")[-1]
    assert re.search(r"^USER [1-9]\d*$", last, re.M)
    assert "HEALTHCHECK" in last and "/healthz" in last
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source


@pytest.mark.slow
def test_container__builds_and_answers(tmp_path: Path) -> None:
    engine = next(filter(None, map(shutil.which, ("podman", "docker"))), None)
    if engine is None:
        pytest.skip("no container engine (podman or docker) is at hand")
    if subprocess.run([engine, "info"], capture_output=True, check=False).returncode:
        pytest.skip(f"{engine} is there, but it cannot be used (`{engine} info` fails)")
    base = os.environ.get("TERAPROOF_CONTAINER_BASE")
    if base is None and os.environ.get("TERAPROOF_CONTAINER_TEST") is None:
        pytest.skip("it loads a base image: set TERAPROOF_CONTAINER_TEST=1 to try")
    arguments = [] if base is None else ["--build-arg", f"BASE={base}"]
    name = "teraproof-agent:test"
    if Path(engine).name == "podman":
        arguments += ["--format", "docker"]  # the other one has no health checks
    run(engine, "build", "-f", CONTAINERFILE, "-t", name, *arguments, ROOT)
    said = subprocess.run(
        [engine, "run", "--rm", name, "--version"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0 and said.stdout.startswith("provider-agent")
    said = subprocess.run(
        [engine, "run", "--rm", "--entrypoint", "id", name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "uid=10001" in said.stdout
