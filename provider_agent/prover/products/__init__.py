# SPDX-License-Identifier: Apache-2.0
"""Exact products of matrices with entries 0..127, by several ways, on whatever device there is.

`base` says what a way is and why centred products are exact. `blas`, `torch_ways` and `cuda_ways`
are the ways. `check` holds a way against products whose results are known, `choose` takes the
fastest that passes.
"""
