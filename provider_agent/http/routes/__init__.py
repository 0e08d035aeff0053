# SPDX-License-Identifier: Apache-2.0
"""The routes of the API, a module for each concern."""
