# SPDX-License-Identifier: Apache-2.0
"""Errors that a person is meant to read: one line says what is wrong and what to do about it.

A command line prints `error: <line>` and exits with 1. Anything else is a bug and keeps its
traceback.
"""


class TeraproofError(Exception):
    """One line for a person: what is wrong, and what to do about it."""
