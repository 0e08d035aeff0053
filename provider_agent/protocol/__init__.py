# SPDX-License-Identifier: Apache-2.0
"""What agent, contracts and tenants must agree on: terms, signed messages, documents, digests.

Nothing in here talks to a network or reads the configuration.
"""
