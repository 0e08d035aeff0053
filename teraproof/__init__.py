# SPDX-License-Identifier: Apache-2.0
"""Teraproof's SDK: what tenants, providers and scripts share. It needs no contract tooling."""
