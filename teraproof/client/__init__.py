# SPDX-License-Identifier: Apache-2.0
"""The tenant's half of a provider's HTTP API."""
