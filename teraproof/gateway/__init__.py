# SPDX-License-Identifier: Apache-2.0
"""The tenant's half of paid inference: one local endpoint in front of every host of a model."""
