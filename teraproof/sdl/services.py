# SPDX-License-Identifier: Apache-2.0
"""The section `services`."""

from __future__ import annotations

import re

from teraproof.protocol.leasespec import Http
from teraproof.sdl import unsold
from teraproof.sdl.faults import Place
from teraproof.sdl.fields import Field
from teraproof.sdl.stack import Credentials, Expose, Mount, Service, To

SERVICE = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
SERVICE_FORM = "1 to 63 lower-case letters, digits or dashes, a letter first and no dash last"
VOLUME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
VOLUME_FORM = "1 to 63 lower-case letters, digits or dashes, with no dash at either end"
MOST_SERVICES = 20
MOST_VOLUMES = 16

_PATH = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_IMAGE = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?/)?{_PATH}(?:/{_PATH})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_REGISTRY = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")
_HOST = re.compile(
    r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_MOUNT = re.compile(
    r"(?!/(?:proc|sys)(?:/|$))(?!/dev(?!/shm$)(?:/|$))"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._@+-]{1,64}){1,16}"
)
_ARGUMENT = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*\S[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_PROTOCOLS = {"tcp": "tcp", "TCP": "tcp", "udp": "udp", "UDP": "udp"}
_CASES = ("error", "timeout", "500", "502", "503", "504", "403", "404", "429")
_OFF = "off"


def services(field: Field) -> dict[str, Service]:
    """All services of a file, by name."""
    return {
        name: _service(value)
        for name, _, value in field.named("service", SERVICE, SERVICE_FORM, MOST_SERVICES)
    }


def _service(field: Field) -> Service:
    parts = field.fields(
        ("image",),
        ("command", "args", "env", "expose", "dependencies", "credentials", "params"),
    )
    mounts, tee, tee_place = _params(parts.get("params"))
    image = parts.get("image")
    return Service(
        place=field.place,
        image="" if image is None else image.text("ghcr.io/owner/name:tag", _IMAGE, 255),
        command=_arguments(parts.get("command"), "arguments"),
        args=_arguments(parts.get("args"), "arguments"),
        env=_env(parts.get("env")),
        expose=_exposes(parts.get("expose")),
        dependencies=_dependencies(parts.get("dependencies")),
        credentials=_credentials(parts.get("credentials")),
        mounts=mounts,
        tee=tee,
        tee_place=tee_place,
    )


def _arguments(field: Field | None, what: str) -> tuple[str, ...]:
    if field is None or field.is_null:
        return ()
    form = "text without control characters"
    return tuple(each.text(form, _ARGUMENT, secret=True) for each in field.items(256, what))


def _env(field: Field | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if field is None or field.is_null:
        return found
    for each in field.items(256, "variables"):
        text = each.text("NAME=value without control characters", _ARGUMENT, secret=True)
        name, equals, value = text.partition("=")
        if not text:
            continue
        if not equals:
            each.fault("a variable without a value; write NAME=value, or NAME= for an empty one")
        elif _VARIABLE.fullmatch(name) is None:
            each.fault(
                "not a name for a variable; give up to 128 letters, digits and _ . -, a letter or "
                "_ first"
            )
        elif name == "NVIDIA_VISIBLE_DEVICES":
            each.fault("the provider sets it to the GPUs of the lease; leave it out")
        elif name in found:
            each.fault(f"the variable {name} stands twice; remove one")
        found[name] = value
    return found


def _dependencies(field: Field | None) -> dict[str, Place]:
    found: dict[str, Place] = {}
    if field is None:
        return found
    for each in field.items(MOST_SERVICES, "dependencies"):
        inner = each.fields(("service",)).get("service")
        if inner is None:
            continue
        name = inner.text("the name of a service", SERVICE)
        if name in found:
            inner.fault("stands twice; remove one")
        found[name] = inner.place
    return found


def _credentials(field: Field | None) -> Credentials | None:
    if field is None:
        return None
    parts = field.fields(("host", "username", "password"), ("email",))

    def text(name: str, form: str, least: int = 1) -> str:
        given = parts.get(name)
        found = "" if given is None else given.text(form, _ONE_LINE, 256, secret=True)
        if given is not None and found and len(found) < least:
            given.fault(f"shorter than {least} characters, as no registry has it")
        return found

    host = parts.get("host")
    return Credentials(
        host="" if host is None else host.text("registry.example.com", _REGISTRY, 253),
        username=text("username", "the name of an account"),
        password=text("password", "a password of one line", 6),
        email=text("email", "name@example.com", 5),
    )


# ---------------------------------------------------------------------- ports


def _exposes(field: Field | None) -> tuple[Expose, ...]:
    if field is None or field.is_null:
        return ()
    found: list[Expose] = []
    for each in field.items(64, "ports"):
        one = _expose(each)
        if any(
            (one.port, one.outer, one.protocol) == (two.port, two.outer, two.protocol)
            for two in found
        ):
            each.fault("the same port stands twice; write all of `to` in one")
        found.append(one)
    return tuple(found)


def _expose(field: Field) -> Expose:
    parts = field.fields(("port",), ("as", "proto", "to", "accept", "http_options"))
    port, outer, proto = parts.get("port"), parts.get("as"), parts.get("proto")
    to, accept, options = parts.get("to"), parts.get("accept"), parts.get("http_options")
    entries = () if to is None else tuple(_to(each) for each in to.items(MOST_SERVICES, "entries"))
    made = Expose(
        place=field.place,
        port=1 if port is None else port.integer(1, 65_535),
        as_port=0 if outer is None else outer.integer(1, 65_535),
        protocol="tcp" if proto is None else _PROTOCOLS.get(proto.choice(_PROTOCOLS), "tcp"),
        to=entries,
        hosts=_hosts(accept),
        http=None if options is None else _http(options),
    )
    web = made.protocol == "tcp" and any(each.public for each in entries)
    for given, name in ((accept, "accept"), (options, "http_options")):
        if given is not None and not web:
            given.fault(f"{name} is for TCP ports with global: true; leave it out")
    return made


def _to(field: Field) -> To:
    parts = field.fields((), ("service", "global", "ip"))
    public, service, ip = parts.get("global"), parts.get("service"), parts.get("ip")
    if field.is_empty:
        field.fault("nobody is named; write global: true or the name of a service")
    if ip is not None:
        ip.refuse(unsold.ENDPOINTS)
    made = To(
        place=field.place,
        public=False if public is None else public.boolean(),
        service="" if service is None else service.text("the name of a service", SERVICE),
        ip="" if ip is None else ip.text("the name of an endpoint", None, 64),
    )
    if ip is not None and not made.public:
        ip.fault("an endpoint is for the public; write global: true next to it")
    return made


def _hosts(field: Field | None) -> tuple[str, ...]:
    if field is None:
        return ()
    found: list[str] = []
    for each in field.items(16, "host names"):
        host = each.text("a host name such as www.example.com, in lower case", _HOST, 253)
        if host in found:
            each.fault("stands twice; remove one")
        found.append(host)
    return tuple(found)


def _http(field: Field) -> Http:
    unknown = {"proxy_buffer_size": unsold.PROXY_BUFFER_SIZE}
    parts = field.fields(
        (),
        (
            *("max_body_size", "read_timeout", "send_timeout"),
            *("next_tries", "next_timeout", "next_cases"),
        ),
        unknown,
    )

    def number(name: str, most: int, usual: int) -> int:
        # As in SDL, 0 stands for the usual value.
        given = parts.get(name)
        return (0 if given is None else given.integer(0, most)) or usual

    usual = Http()
    return Http(
        max_body_bytes=number("max_body_size", 100 << 20, usual.max_body_bytes),
        read_timeout_ms=number("read_timeout", 60_000, usual.read_timeout_ms),
        send_timeout_ms=number("send_timeout", 60_000, usual.send_timeout_ms),
        next_tries=number("next_tries", 100, usual.next_tries),
        next_timeout_ms=number("next_timeout", 600_000, usual.next_timeout_ms),
        next_cases=_next_cases(parts.get("next_cases"), usual.next_cases),
    )


def _next_cases(field: Field | None, usual: tuple[str, ...]) -> tuple[str, ...]:
    if field is None:
        return usual
    found: list[str] = []
    for each in field.items(len(_CASES), "cases"):
        case = each.word() if each.is_text else None
        if case != _OFF:
            case = each.text('error, timeout or "502"') and each.choice((*_CASES, _OFF))
        if case in found:
            each.fault("stands twice; remove one")
        found.append(case)
    if _OFF in found:
        if len(found) > 1:
            field.fault("off excludes all other cases; leave one of them out")
        return ()
    return tuple(sorted(found)) or usual


# ---------------------------------------------------------------------- params


def _params(field: Field | None) -> tuple[dict[str, Mount], str, Place | None]:
    if field is None:
        return {}, "", None
    parts = field.fields((), ("storage", "tee", "permissions"))
    permissions, tee = parts.get("permissions"), parts.get("tee")
    if permissions is not None:
        _permissions(permissions)
    word = ""
    if tee is not None:
        tee.refuse(unsold.TEE)
        if tee.is_text:
            word = tee.choice(("cpu", "cpu-gpu"))
    return _mounts(parts.get("storage")), word, None if tee is None else tee.place


def _permissions(field: Field) -> None:
    read = field.fields((), ("read",)).get("read")
    if read is None:
        return
    for each in read.items(8, "permissions"):
        each.choice(("deployment", "logs", "events"))
        read.refuse(unsold.PERMISSIONS)


def _mounts(field: Field | None) -> dict[str, Mount]:
    found: dict[str, Mount] = {}
    if field is None:
        return found
    paths: set[str] = set()
    for name, _, value in field.named("volume", VOLUME, VOLUME_FORM, MOST_VOLUMES, 0):
        parts = value.fields(("mount",), ("readOnly",), {"keyRef": unsold.KEY_REF})
        mount, read_only = parts.get("mount"), parts.get("readOnly")
        form = "an absolute path such as /data, not below /proc, /sys or /dev"
        path = "" if mount is None else mount.text(form, _MOUNT, 1_040)
        if mount is not None and path in paths:
            mount.fault("another volume is there already; give each its own path")
        paths.add(path)
        place = value.place if mount is None else mount.place
        only = False if read_only is None else read_only.boolean()
        found[name] = Mount(place, path, only)
    return found
