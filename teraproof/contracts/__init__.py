# SPDX-License-Identifier: Apache-2.0
"""The contracts, typed: one class for each, made from the compiler's output by `make sdk`."""
