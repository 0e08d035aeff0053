# SPDX-License-Identifier: Apache-2.0
"""For every suite: Hypothesis bounds the number of examples and never the time of one.

A machine that is busy would fail a test that is right.
"""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
