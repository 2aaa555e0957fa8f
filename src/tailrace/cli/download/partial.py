"""A file that is not complete yet: `FILE.part`, and `FILE.part.json` which says what it holds.

The sidecar never promises more than the disk has: the data is synced first, then the sidecar is
replaced as a whole. So after a crash or a power failure it says too little at worst.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

from tailrace import limits
from tailrace.cli.download.resume import Record
from tailrace.cli.download.sidecar import parse_record, write_record
from tailrace.cli.download.span import joined, without
from tailrace.errors import DownloadFailed

__all__ = ["PartialFile"]

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
"""What a file system says that has no hard links."""

_NO_ALLOCATION = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}


class PartialFile:
    """The partial file of `target`, locked against a second download to the same place.

    Args:
        target: Where the complete file goes.
        url: What is downloaded.
        descriptor: The open and locked `FILE.part`.

    Attributes:
        record: What is there; None: nothing that is of use.
    """

    def __init__(self, target: Path, url: str, descriptor: int) -> None:
        self.target = target
        self.record: Record | None = None
        self._url = url
        self._descriptor = descriptor
        self._changed = False
        self._emptied = False
        # Saving syncs, so it runs in a thread; what it describes must not be dropped meanwhile.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, target: Path, url: str, *, create: bool) -> PartialFile | None:
        """Open and lock the partial file of a target.

        Returns:
            None if there is none and `create` is false.

        Raises:
            DownloadFailed: Another process downloads to the same place.
            OSError: It cannot be opened; a symbolic link is not followed.
        """
        path = _part_of(target)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        while True:
            try:
                descriptor = os.open(path, flags | (os.O_CREAT if create else 0), 0o666)
            except FileNotFoundError:
                if create:
                    raise
                return None
            try:
                if _lock(descriptor, path):
                    return cls(target, url, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    @property
    def path(self) -> Path:
        return _part_of(self.target)

    def load(self) -> None:
        """Take up what an earlier run has left."""
        try:
            with _sidecar_of(self.target).open("rb") as file:
                text = file.read(limits.MAX_SIDECAR_BYTES).decode()
        except (OSError, UnicodeDecodeError):
            return
        self.record = parse_record(text, self._url, os.fstat(self._descriptor).st_size)

    def begin(self, record: Record, *, reserve: bool) -> None:
        """Start anew.

        Args:
            record: What is to come.
            reserve: Take the room on the disk now, for several writers.
        """
        self.forget()
        if reserve and record.total:
            try:
                os.posix_fallocate(self._descriptor, 0, record.total)
            except OSError as error:
                if error.errno not in _NO_ALLOCATION:
                    raise
                os.ftruncate(self._descriptor, record.total)
        self.record = record
        self._changed = True

    def forget(self) -> None:
        """Drop what is there."""
        with self._lock:
            # In this order: a sidecar must never describe bytes that are gone.
            _sidecar_of(self.target).unlink(missing_ok=True)
            os.ftruncate(self._descriptor, 0)
            self.record = None
            self._emptied = True

    def write(self, at: int, data: bytes) -> None:
        """Write at a place, and note it as there.

        It blocks: at the page cache's speed, and where the disk is slower nothing else of this
        process has anything better to do than to wait for it.
        """
        assert self.record is not None
        view = memoryview(data)
        start = at
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view, at = view[written:], at + written
        self.record = replace(self.record, missing=without(self.record.missing, start, at))
        self._changed = True

    def ended_at(self, stop: int) -> None:
        """The file's end, which was not known before, is here."""
        assert self.record is not None
        self.record = replace(self.record, total=stop, missing=())
        self._changed = True

    def lose(self, start: int, stop: int) -> None:
        """Bytes that were written are wrong, and missing again."""
        assert self.record is not None
        if start < stop:
            self.record = replace(self.record, missing=joined(self.record.missing, start, stop))
            self._changed = True

    def save(self) -> None:
        """Write the sidecar; what it promises is on the disk before it is."""
        with self._lock:
            record = self.record
            if record is None or not self._changed:
                return
            self._changed = False
            os.fdatasync(self._descriptor)
            _replace(_sidecar_of(self.target), write_record(record, self._url))

    def verify(self) -> bool:
        """Whether the bytes come to the checksum that the server gave; True if it gave none."""
        record = self.record
        if record is None or record.digest is None:
            return True
        check = record.digest.start()
        at = 0
        while data := os.pread(self._descriptor, 1024 * 1024, at):
            check.update(data)
            at += len(data)
        return record.digest.matches(check)

    def publish(self, *, force: bool) -> None:
        """Give the complete file its name.

        Args:
            force: Replace what has that name.

        Raises:
            DownloadFailed: A different file has come to have that name; the partial file is kept.
        """
        with self._lock:
            assert self.record is not None
            assert not self.record.missing
            os.ftruncate(self._descriptor, self.record.total or 0)
            os.fsync(self._descriptor)
            if force:
                self.path.replace(self.target)
            else:
                self._link()
            _sidecar_of(self.target).unlink(missing_ok=True)
            self.record = None
            self._emptied = False
            _sync_directory(self.target.parent)

    def _link(self) -> None:
        try:
            # Unlike a rename, a link fails where the name is taken.
            os.link(self.path, self.target, follow_symlinks=False)
        except FileExistsError:
            if not filecmp.cmp(self.path, self.target, shallow=False):
                raise DownloadFailed(
                    f"{self.target} came to be during the download: --force replaces it"
                ) from None
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(self.target):
                raise
            self.path.replace(self.target)
            return
        self.path.unlink()

    def discard(self) -> None:
        """Remove it and its sidecar."""
        with self._lock:
            self.record = None
            self._emptied = False
            _sidecar_of(self.target).unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Save what there is, or leave nothing where there is nothing; let go of the lock."""
        if self._descriptor < 0:
            return
        try:
            if self.record is not None and self.record.have > 0:
                self.save()
            elif self._emptied:
                self.discard()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _sidecar_of(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _lock(descriptor: int, path: Path) -> bool:
    """Lock it; False: what was opened has lost its name meanwhile, so open it again."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise DownloadFailed(f"{path} is not a regular file")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DownloadFailed(f"{path} is in use: another download goes there") from None
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _replace(path: Path, text: str) -> None:
    """Give a file a new content, as a whole."""
    fresh = path.with_name(path.name + "~")
    fresh.unlink(missing_ok=True)
    # Ours alone: O_EXCL follows no link that somebody has put there meanwhile.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(fresh, flags, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _sync_directory(path: Path) -> None:
    # Some file systems cannot sync a directory; the file itself is on the disk by then.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
