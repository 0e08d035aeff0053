# SPDX-License-Identifier: Apache-2.0
"""Whether a court by re-execution pays: what each deviation gains, by formula and by simulation."""
