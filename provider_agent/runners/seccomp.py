# SPDX-License-Identifier: Apache-2.0
"""The system call filter of the sandbox, as a classic BPF program.

Namespaces and an unprivileged user do most of the work. The filter closes what they leave open:
socket families that ignore the network namespace (vsock reaches the hypervisor), memory outside of
processes and files (System V segments, semaphores and queues, POSIX queues), the job's processor
list (a job could undo its affinity), and parts of the kernel with a long record of bugs and no use
for a job.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

# Names of classic BPF, from linux/bpf_common.h and linux/seccomp.h.
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQ = 0x15
_JUMP_GE = 0x35
_JUMP_SET = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000

# struct seccomp_data: number, architecture, instruction pointer, six 64-bit arguments.
_NUMBER = 0
_ARCHITECTURE = 4
_FIRST_ARGUMENT = 16  # low half; both machines below are little-endian
_SECOND_ARGUMENT = 24

_CLONE_NEWUSER = 0x10000000
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink

# The same numbers on every architecture.
_DENIED_EVERYWHERE = (
    (425, 426, 427)  # io_uring: its requests pass by this filter
    + (428, 429, 430, 431, 432, 433, 442)  # the newer mount calls
    + (438,)  # pidfd_getfd
    + (447,)  # memfd_secret
)


@dataclass(frozen=True)
class _Machine:
    audit: int
    denied: tuple[int, ...]
    clone: int
    clone3: int
    socket: int
    ioctl: int
    x32: bool = False


# Denied, in this order: ptrace process_vm_readv process_vm_writev keyctl add_key request_key bpf
# perf_event_open userfaultfd kexec_load kexec_file_load unshare setns mount umount2 pivot_root
# shmget sched_setaffinity init_module finit_module delete_module swapon reboot
# open_by_handle_at name_to_handle_at semget msgget msgsnd mq_open
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        denied=(101, 310, 311, 250, 248, 249, 321, 298, 323, 246, 320, 272, 308, 165, 166, 155)
        + (29, 203, 175, 313, 176, 167, 169, 304, 303, 64, 68, 69, 240),
        clone=56,
        clone3=435,
        socket=41,
        ioctl=16,
        x32=True,
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        denied=(117, 270, 271, 219, 217, 218, 280, 241, 282, 104, 294, 97, 268, 40, 39, 41)
        + (194, 122, 105, 273, 106, 224, 142, 265, 264, 190, 186, 189, 180),
        clone=220,
        clone3=435,
        socket=198,
        ioctl=29,
    ),
}


def program(machine: str | None = None) -> bytes | None:
    """The filter for this machine (or the one named), None where its numbers are not known."""
    known = _MACHINES.get(machine or platform.machine())
    return None if known is None else b"".join(_instructions(known))


def _instructions(machine: _Machine) -> list[bytes]:
    deny = _ERRNO | errno.EPERM
    code = [
        _op(_LOAD, _ARCHITECTURE),
        _op(_JUMP_EQ, machine.audit, 1, 0),
        _op(_RETURN, _KILL_PROCESS),
        _op(_LOAD, _NUMBER),
    ]
    if machine.x32:
        code += [_op(_JUMP_GE, 0x40000000, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    # clone3 hides its flags behind a pointer; on ENOSYS the C library falls back to clone.
    code += [_op(_JUMP_EQ, machine.clone3, 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
    for number in machine.denied + _DENIED_EVERYWHERE:
        code += [_op(_JUMP_EQ, number, 0, 1), _op(_RETURN, deny)]
    code += [
        _op(_JUMP_EQ, machine.clone, 0, 4),
        _op(_LOAD, _FIRST_ARGUMENT),
        _op(_JUMP_SET, _CLONE_NEWUSER, 0, 1),
        _op(_RETURN, deny),
        _op(_RETURN, _ALLOW),
        _op(_JUMP_EQ, machine.ioctl, 0, 5),
        _op(_LOAD, _SECOND_ARGUMENT),
        _op(_JUMP_EQ, _TIOCSTI, 1, 0),
        _op(_JUMP_EQ, _TIOCLINUX, 0, 1),
        _op(_RETURN, deny),
        _op(_RETURN, _ALLOW),
        _op(_JUMP_EQ, machine.socket, 1, 0),
        _op(_RETURN, _ALLOW),
        _op(_LOAD, _FIRST_ARGUMENT),
    ]
    for left, family in zip(range(len(_FAMILIES), 0, -1), _FAMILIES, strict=True):
        code.append(_op(_JUMP_EQ, family, left, 0))
    return [*code, _op(_RETURN, _ERRNO | errno.EAFNOSUPPORT), _op(_RETURN, _ALLOW)]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
