# SPDX-License-Identifier: Apache-2.0
"""The part of the HTTP API that is about jobs.

HEAD, PUT /v1/specs/{sha256}            canonical job specification
HEAD, PUT /v1/inputs/{sha256}           one input file, Content-Length needed
POST /v1/quotes {spec}                  -> quote (integers as text), signature
GET  /v1/jobs/{id}                      and /receipt, /logs?offset=N&limit=N
GET  /v1/jobs/{id}/result               manifest; /result/{path} (Range: bytes=N-), /result.tar
GET  /v1/jobs/{id}/evidence/spec        for drawn jurors; /inputs/{sha256}, /result, /result/{path}
"""

from provider_agent.core.operation import Door, Operation
from provider_agent.modules.jobs.api import JobsApi
from provider_agent.modules.jobs.routes.downloads import Downloads
from provider_agent.modules.jobs.routes.evidence import EvidenceRoutes
from provider_agent.modules.jobs.routes.inputs import InputRoutes
from provider_agent.modules.jobs.routes.jobs import JobRoutes
from provider_agent.modules.jobs.routes.specs import SpecRoutes


def operations(api: JobsApi, door: Door) -> list[Operation]:
    """All of them."""
    downloads = Downloads(api.limits)
    return [
        *SpecRoutes(api, door).operations(),
        *InputRoutes(api, door).operations(),
        *JobRoutes(api, door, downloads).operations(),
        *EvidenceRoutes(api.evidence, door, downloads).operations(),
    ]
