# SPDX-License-Identifier: Apache-2.0
"""What paid inference costs next to the bare model server in the same run. See `__main__`."""
