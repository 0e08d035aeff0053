# SPDX-License-Identifier: Apache-2.0
"""Runs several `ape` commands in one process, because Ape takes seconds to start.

Reads a JSON list of argument lists from standard input; writes a JSON list of [exit code, output].
The argument JOB stands for the job id that a command before it showed.
An exception that a command lets through counts as a traceback.
"""

from __future__ import annotations

import json
import re
import sys
import traceback

from ape._cli import cli
from click.testing import CliRunner


def main() -> None:
    results = []
    job = ""
    for arguments in json.load(sys.stdin):
        result = CliRunner().invoke(cli, [job if a == "JOB" else a for a in arguments])
        output = result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            output += "".join(traceback.format_exception(result.exception))
        if shown := re.search(r"job (0x[0-9a-f]{64})", output):
            job = shown[1]
        results.append([result.exit_code, output])
    json.dump(results, sys.stdout)


main()
