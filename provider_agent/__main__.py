# SPDX-License-Identifier: Apache-2.0
"""`python -m provider_agent` is the command line."""

from provider_agent.cli.main import main

main()
