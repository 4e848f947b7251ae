"""The sandbox of a decoder's child process: a compromised decoder can compute and answer its parent, and nothing else.

It has three layers, as far as the kernel supports them; outside of Linux, some of the limits are all:

- Resource limits: address space, no core file, no new file descriptor, no file growth. On every Linux. (There is no limit on
  processes: it does not bind root, and would deny threads to other users.)
- No new privileges, and death with the parent. On every Linux since 3.5.
- A seccomp filter that allows the system calls below and refuses all others with EPERM. It denies sockets, opening files (even to
  read them), programs and processes, and allows threads. On x86-64 and arm64, where the kernel has seccomp filters.

Landlock is not used: it restricts the file system only, and the filter already denies every call that opens a file.

ctypes makes the calls: the bindings of libseccomp need a system library, and no widely used ones work without it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from contextlib import nullcontext, suppress

ADDRESS_SPACE_BYTES = 3 << 30  # Python, NumPy and FFmpeg map 0.6 GB of it
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38  # prctl
_SET_MODE_FILTER, _TSYNC = 1, 1  # seccomp

_NUMBERS = {  # numbers of the allowed system calls on x86-64 and arm64; -1 where the call does not exist
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "poll": (7, -1),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, -1),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_CLONE, _CLONE3, _TGKILL = (56, 220), (435, 435), (234, 131)
_SECCOMP = (317, 277)
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE_THREAD = 0x10000

# Berkeley packet filter: opcodes, and offsets in struct seccomp_data
_LOAD, _EQUAL, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def enter(parent: int) -> str:
    """Restrict this process until it ends.

    Args:
        parent: Process id of the parent, with which this process dies.

    Returns:
        The reason why there is no system call filter; empty where there is one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    is_linux = hasattr(libc, "prctl")
    if is_linux:
        libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the calls above
        os._exit(1)
    limit(ADDRESS_SPACE_BYTES, is_linux=is_linux)
    return _filter_calls(libc) if is_linux else f"no system call filter on {platform.system()}"


def limit(address_space_bytes: int, *, is_linux: bool = True) -> None:
    """Limit the memory of this process, and deny core files, new file descriptors and file growth.

    Another system than Linux may refuse one of these limits.
    """
    for kind, most in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with nullcontext() if is_linux else suppress(OSError, ValueError):
            resource.setrlimit(kind, (bound, bound))


def _filter_calls(libc: ctypes.CDLL) -> str:
    machine = platform.machine()
    if machine not in _AUDIT:
        return f"no system call filter for {machine}"
    program = filter_program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    number = _SECCOMP[_column(machine)]
    if libc.syscall(ctypes.c_long(number), ctypes.c_ulong(_SET_MODE_FILTER), ctypes.c_ulong(_TSYNC), described):
        return f"no system call filter: {os.strerror(ctypes.get_errno())}"
    return ""


def _column(machine: str) -> int:
    return list(_AUDIT).index(machine)


def filter_program(machine: str, pid: int) -> bytes:
    """Return the filter as the kernel takes it, 8 bytes an instruction.

    Args:
        machine: x86_64 or aarch64.
        pid: The only process that may receive a signal: this one, from `abort`.
    """
    column = _column(machine)
    refuse, unknown = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
    program = [(_LOAD, 0, 0, _ARCH_AT), (_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER_AT)]
    for numbers in _NUMBERS.values():
        if numbers[column] >= 0:
            program += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ALLOW)]
    program += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, unknown)]  # its flags are out of reach; libc falls back to clone
    program += _only_with(_CLONE[column], (_HAS_BITS, 0, 1, _CLONE_THREAD), refuse)
    program += _only_with(_TGKILL[column], (_EQUAL, 0, 1, pid), refuse)
    program.append((_RETURN, 0, 0, refuse))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _only_with(number: int, condition: tuple[int, int, int, int], otherwise: int) -> list[tuple[int, int, int, int]]:
    """Return instructions that allow a call whose first argument meets a condition."""
    return [
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        condition,
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, otherwise),
    ]
