# SPDX-License-Identifier: Apache-2.0
"""The tenant's half of paid inference: one local endpoint in front of every host of a model.

It chooses a host for each request, pays it step by step, checks its receipts, and goes to another
one when it fails.
"""
