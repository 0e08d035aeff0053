# SPDX-License-Identifier: Apache-2.0
"""The provider's agent: takes jobs, runs them in a sandbox, attests the results on chain."""
