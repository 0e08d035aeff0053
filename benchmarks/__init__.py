# SPDX-License-Identifier: Apache-2.0
"""Measurements that are compared with committed figures."""
