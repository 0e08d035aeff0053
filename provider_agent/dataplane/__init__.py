# SPDX-License-Identifier: Apache-2.0
"""The data plane of leases: how tenants and the public reach the containers.

`plane.DataPlane` is one thread with an event loop. `door` is for tenants, `public` for everybody.
Whose lease is whose comes from `holders.Leaseholders`, what runs from a `LeaseRunner`. Nothing here
decides about money, and nothing is kept but the numbers of outer ports.
"""
