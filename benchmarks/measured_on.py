"""What every results file says of where and when it was measured."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def measured_on(*packages: str) -> dict[str, Any]:
    """Keys `date`, `machine` and `versions` (of those of `packages` that are installed)."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()},
        "versions": {name: found for name in packages if (found := _version(name))},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
