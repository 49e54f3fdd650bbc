"""What the verbs of the `rlcs` command have in common: arguments, and how they speak."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration; configs/ holds those we ship")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings to change, dotted keys")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print the resolved configuration and the plan, and stop")]


def hide_loading_bars() -> None:
    """transformers' bars over loading and saving would tear ours, and last a moment."""
    from transformers.utils import logging as loading

    loading.disable_progress_bar()


def say(text: str) -> None:
    Console().print(escape(text), highlight=False, soft_wrap=True)
