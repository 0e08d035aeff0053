# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks.models serve: real models on a CPU behind OpenAI's API.

Run it with `.venv-models/bin/python`, after `make models`. `serve --help` lists the options; those
of the last group make it a dishonest host, for demonstrations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import uvicorn

from benchmarks.models import places, variants
from benchmarks.models.engine import Settings
from benchmarks.models.faulty import Faulty
from benchmarks.models.server import Server


def arguments() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="a server of OpenAI's API")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8200)
    serve.add_argument("--name", default=places.CHAT, help="the model's name")
    serve.add_argument("--parallel", type=int, default=4, help="answers at one time")
    serve.add_argument("--context", type=int, default=2048, help="tokens of one answer's context")
    serve.add_argument("--threads", type=int, default=2)
    serve.add_argument("--build", help="kernels for one kind of CPU, such as haswell")
    faults = serve.add_argument_group("to be a dishonest host")
    faults.add_argument("--weights", default="q4_1", help="q4_0, q8_0, or fewer: a smaller model")
    faults.add_argument("--cut", type=int, default=0, help="the most tokens of its answers")
    faults.add_argument("--extra", type=float, default=0.0, help="part of tokens counted too many")
    faults.add_argument("--break-schemas", type=float, default=0.0, help="part of them broken")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command; 0 when it was stopped."""
    asked = arguments().parse_args(words)
    try:
        settings = Settings(
            weights=variants.weights(asked.weights),
            sequences=asked.parallel,
            context=asked.context,
            threads=asked.threads,
            modules=(
                places.without_other_builds(asked.build) if asked.build else places.NODE_MODULES
            ),
        )
    except (places.NotInstalled, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    faulty = Faulty(asked.cut, asked.extra, asked.break_schemas)
    server = Server(settings, asked.name, faulty)
    uvicorn.run(server.application(), host=asked.host, port=asked.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
