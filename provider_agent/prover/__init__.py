# SPDX-License-Identifier: Apache-2.0
"""What makes proofs: engines, the process that runs them, its folder on the disk."""
