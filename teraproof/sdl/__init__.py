# SPDX-License-Identifier: Apache-2.0
"""Akash's SDL, versions 2.0 and 2.1: files that say what to run, read into lease specifications.

`examine` says everything about a file: the leases that it asks for, and all that is wrong with it.
"""
