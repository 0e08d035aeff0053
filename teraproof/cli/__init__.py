# SPDX-License-Identifier: Apache-2.0
"""The commands: `teraproof job ...` with a key file, `ape run job ...` with Ape's accounts."""
