# SPDX-License-Identifier: Apache-2.0
"""The provider's side of an acceptance challenge: a device's memory, its answers, its process."""
