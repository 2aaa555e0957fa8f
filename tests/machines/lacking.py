"""Removes from this Python what other systems lack.

The tests run on Linux only: there is no Mac and no Windows machine. So the tests for these systems
run in a Python from which everything was removed that such a system does not have, before anything
else is imported. What they have and Linux has not cannot be tested in this way.

Some differences are simulated. On macOS a call gives the path of a descriptor (`F_GETPATH`). On
Windows the event loop watches no descriptors; a socket pair uses TCP; an open file can be neither
deleted nor replaced; and a file has no owner and no time of its last change (`st_ctime` is the time
of its creation).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

__all__ = ["SYSTEMS", "become"]

_LINUX_ALONE = (
    *(f"socket.{name}" for name in ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED", "SO_PASSCRED")),
    *(f"socket.{name}" for name in ("SCM_CREDENTIALS", "SO_DOMAIN", "SO_PROTOCOL", "TCP_CORK")),
    *(f"socket.{name}" for name in ("TCP_USER_TIMEOUT", "TCP_QUICKACK", "TCP_DEFER_ACCEPT")),
    *(f"os.{name}" for name in ("O_PATH", "O_DIRECT", "O_NOATIME", "RWF_NOWAIT")),
    *(f"os.{name}" for name in ("posix_fadvise", "posix_fallocate", "splice", "memfd_create")),
    *(f"os.{name}" for name in ("eventfd", "copy_file_range", "sched_getaffinity", "pidfd_open")),
    *(f"os.{name}" for name in ("sched_setaffinity", "getrandom", "getxattr", "setxattr")),
    *("select.epoll", "select.EPOLLRDHUP"),
)
_POSIX_ALONE = (
    *(f"socket.{name}" for name in ("AF_UNIX", "SCM_RIGHTS", "MSG_DONTWAIT", "SO_REUSEPORT")),
    *(f"os.{name}" for name in ("sendfile", "pread", "preadv", "pwrite", "pwritev", "writev")),
    *(f"os.{name}" for name in ("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK")),
    *(f"os.{name}" for name in ("O_NOCTTY", "O_SYNC", "O_DSYNC", "readv", "openpty", "nice")),
    *(f"os.{name}" for name in ("geteuid", "getuid", "getegid", "getgid", "fchmod", "fchown")),
    *(f"os.{name}" for name in ("chown", "fork", "forkpty", "register_at_fork", "mkfifo", "wait")),
    *(f"os.{name}" for name in ("statvfs", "fstatvfs", "killpg", "setsid", "getpgid", "getpgrp")),
    *(f"os.{name}" for name in ("getloadavg", "sched_yield", "fdatasync")),
    *(f"signal.{name}" for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM")),
    *(f"signal.{name}" for name in ("setitimer", "alarm", "pthread_sigmask", "sigwait")),
    *("select.poll", "select.kqueue"),
)
_POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")

_modules = {"os": os, "select": select, "signal": signal, "socket": socket}


def become(system: str) -> None:
    """Remove what a system lacks. Call this before anything else is imported.

    Args:
        system: One of `SYSTEMS`.
    """
    SYSTEMS[system]()


def _macos() -> None:
    _let_others_be()
    _tell_paths()
    _hide_proc()
    _take_away(_LINUX_ALONE)


def _windows() -> None:
    _refuse_to_remove_what_is_open()  # first, because it needs /proc
    _macos()
    _pair_over_tcp()
    _take_away(_POSIX_ALONE)
    for name in _POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # as importlib has it: not to be found
    with warnings.catch_warnings(action="ignore"):
        import filelock  # with no `fcntl` it locks by the file's being there, and warns of that

        assert not filelock.has_fcntl
    os.supports_dir_fd = set()
    os.supports_fd = set()
    os.supports_follow_symlinks = set()
    vars(shutil)["_use_fd_functions"] = False  # shutil has checked this at its import
    _give_no_owner_and_no_change()
    _watch_no_descriptors()


SYSTEMS: dict[str, Callable[[], None]] = {"macos": _macos, "windows": _windows}


def _let_others_be() -> None:
    """Let other libraries keep what they use on Linux: on that system they use something else."""
    import psutil
    from trio._core import _io_epoll

    assert psutil.LINUX

    _io_epoll.select = SimpleNamespace(**vars(select))  # type: ignore[attr-defined, assignment]


def _take_away(names: tuple[str, ...]) -> None:
    for name in names:
        module, _, attribute = name.partition(".")
        vars(_modules[module]).pop(attribute, None)


def _tell_paths() -> None:
    import fcntl

    real, readlink = fcntl.fcntl, os.readlink

    def call(descriptor: int, command: int, argument: Any = 0) -> Any:
        if command != _GETPATH:
            return real(descriptor, command, argument)
        return os.fsencode(readlink(f"/proc/self/fd/{descriptor}")).ljust(len(argument), b"\0")

    vars(fcntl).update(fcntl=call, F_GETPATH=_GETPATH)


_GETPATH = 50
"""The value of `F_GETPATH` on macOS."""


def _hide_proc() -> None:
    def hidden(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if isinstance(path, str) and path.startswith("/proc/"):
                raise FileNotFoundError(2, "No such file or directory", path)
            return real(path, *rest, **named)

        return call

    for name in ("stat", "lstat", "open", "listdir", "readlink", "scandir"):
        real = getattr(os, name)
        setattr(os, name, hidden(real))
        for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if real in able:
                able.add(getattr(os, name))


def _refuse_to_remove_what_is_open() -> None:
    listdir, readlink, realpath = os.listdir, os.readlink, os.path.realpath

    def is_open(path: Any) -> bool:
        wanted = realpath(path)
        for number in listdir("/proc/self/fd"):
            try:
                if readlink(f"/proc/self/fd/{number}") == wanted:
                    return True
            except OSError:
                continue
        return False

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            touched = [
                each for each in (path, *rest) if isinstance(each, str | bytes | os.PathLike)
            ]
            if not named and any(map(is_open, touched)):
                raise PermissionError(13, "The process cannot access the file", str(path))
            return real(path, *rest, **named)

        return call

    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, guarded(getattr(os, name)))


def _give_no_owner_and_no_change() -> None:
    def plain(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def call(*given: Any, **named: Any) -> os.stat_result:
            found = real(*given, **named)
            first = (*found[:4], 0, 0, *found[6:9], 0)
            more = {name: getattr(found, name) for name in _TIMES} | {"st_ctime": 0.0}
            return os.stat_result(first, more | {"st_ctime_ns": 0})

        return call

    for name in ("stat", "fstat", "lstat"):
        setattr(os, name, plain(getattr(os, name)))


_TIMES = ("st_atime", "st_mtime", "st_atime_ns", "st_mtime_ns")


def _pair_over_tcp() -> None:
    def socketpair(*_: object) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname())
            other, _address = listener.accept()
            return one, other

    socket.socketpair = socketpair  # type: ignore[assignment]


def _watch_no_descriptors() -> None:
    import asyncio

    def refuse(*_: object) -> None:
        raise NotImplementedError

    loop: Any = asyncio.SelectorEventLoop
    for name in ("add_reader", "remove_reader", "add_writer", "remove_writer"):
        setattr(loop, name, refuse)
    for name in ("add_signal_handler", "remove_signal_handler"):
        setattr(loop, name, refuse)
