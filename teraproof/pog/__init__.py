# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU, format v2: what a proof is, how it is made and how it is checked.

`format`, `merkle` and `opening` are the format itself and need nothing but Python; the engines
(`reference`, `cpu`, `cuda`) make the same bytes faster and need NumPy or CuPy.
"""
