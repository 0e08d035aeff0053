# SPDX-License-Identifier: Apache-2.0
"""Jobs: takes them, runs them, attests their results, collects the pay."""
