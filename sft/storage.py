"""What the disk did to a write, said plainly: which file, why, and what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def explained_write(path: Path, mend: str = "") -> Iterator[None]:
    """Turns an error of the disk while `path` is written into an OSError of the same number that names it and the mend.

    Libraries written in C++ and Rust (torch.save, safetensors) raise errors of their own; what the system said is looked up in
    them. Errors that the disk has no part in pass as they are.
    """
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        reason = errno.errorcode.get(number, str(number))
        said = f"{path} could not be written: {os.strerror(number).lower()} ({reason})"
        if number in _FULL:
            said += f", {_free(path)}; free space there"
        else:
            said += "; mend that, or name another directory as `out`"
        raise OSError(number, said + mend) from error


def _number(error: BaseException | None) -> int | None:
    """The system's number of the error at the bottom of `error`; None where there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if found := _OS_ERROR.search(str(error)):
            return int(found[1])
        error = error.__cause__ or error.__context__
    return None


def _free(path: Path) -> str:
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return f"{shutil.disk_usage(existing).free / 2**20:,.0f} MiB are free"
