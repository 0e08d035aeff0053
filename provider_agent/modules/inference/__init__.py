# SPDX-License-Identifier: Apache-2.0
"""Paid inference: a front for the owner's own model servers, paid request by request."""
