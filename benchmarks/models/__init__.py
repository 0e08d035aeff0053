# SPDX-License-Identifier: Apache-2.0
"""Real models on a CPU, from ordinary packages: a server of OpenAI's API, and what was measured.

`python -m benchmarks.models serve` in `.venv-models` starts the server (`make models` makes the
environment).
"""
