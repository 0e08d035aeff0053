# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP interface: the server in `app`, the tenant's side in `client`."""
