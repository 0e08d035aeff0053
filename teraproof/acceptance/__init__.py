# SPDX-License-Identifier: Apache-2.0
"""The acceptance challenge of a lease: what its devices have to show, and how that is checked.

It runs off chain, between a tenant's tool and the provider's agent. `format` says what is computed,
`messages` how it travels, `checks` whether it is right, `policy` how much to ask and what follows,
and `examiner` asks. docs/soundness.md says what it shows and what not.
"""
