# SPDX-License-Identifier: Apache-2.0
"""The generator of `teraproof/contracts`."""
