"""What tells one state of a file from another without reading it."""

from pathlib import Path


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """(inode, size, modification time) of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
