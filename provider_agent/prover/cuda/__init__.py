# SPDX-License-Identifier: Apache-2.0
"""The engine for NVIDIA GPUs."""
