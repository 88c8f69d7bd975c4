"""One run per directory: an advisory lock that the kernel releases when its holder dies, however it dies."""

import errno
import fcntl
import os
import weakref
from pathlib import Path

from edgepress.errors import ToolError, UserError

_held: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


class RunLock:
    """`flock` on a file that also names its holder.

    The file is never deleted: between opening and locking, another process could lock a file that no longer has a name.

    Raises:
        UserError: another process holds it; its pid is named.
        ToolError: the file system knows no locks.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise _refusal(path, holder, error) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        _held.add(self)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            self.forget()

    def forget(self) -> None:
        """Close without unlocking: what a forked child does, for the lock is its parent's."""
        os.close(self._descriptor)
        self._descriptor = -1
        _held.discard(self)


def _refusal(path: Path, holder: str, error: OSError) -> UserError | ToolError:
    if error.errno in (errno.EAGAIN, errno.EACCES):
        who = f"process {holder}" if holder else "another process"
        fix = f"wait for it, stop it (kill {holder or 'PID'}), or choose another --out"
        return UserError(f"{path.parent} is in use by another run", found=who, expected="one run at a time", fix=fix)
    reason = os.strerror(error.errno or 0)
    fix = "choose an --out on a local disk"
    return ToolError(f"{path} cannot be locked", found=reason, expected="a file system with locks", fix=fix)


def _forget_in_child() -> None:
    # A lock belongs to the open file, which a fork shares: a data-loading worker that outlives its killed parent
    # would otherwise keep the directory locked.
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)
