# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Scores set by hand, for tests
@license AGPL-3.0-only
"""

from ..interfaces import IScores

implements: IScores

score: public(HashMap[address, uint256])


@external
def set_score(provider: address, points: uint256):
    """
    @notice Sets a provider's score.
    @param provider The provider's owner address.
    @param points Operations per second.
    """
    self.score[provider] = points
