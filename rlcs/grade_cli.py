"""`rlcs grade` and its two commands, `run` and `merge` (docs/grade.md)."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from rlcs.cli_common import ConfigFile, DryRun, Overrides, hide_loading_bars, say

GradeResume = Annotated[bool, typer.Option("--resume", help="go on where a grading of the same settings was stopped")]


class _RunByDefault(TyperGroup):
    """A group of commands in which `run` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args and args[0] in {*self.commands, "--help"}
        return super().parse_args(ctx, args if named or not args else ["run", *args])


grade = typer.Typer(cls=_RunByDefault, no_args_is_help=True)


@grade.command("run")
def grade_run(config: ConfigFile, overrides: Overrides = None, resume: GradeResume = False, dry_run: DryRun = False) -> None:
    """pass@k of every problem of a file: writes it with pass_rate, grade and tier. `run` may be left out."""
    from rlcs.config import load_config
    from rlcs.grade_config import GradeConfig

    settings = load_config(GradeConfig, config, overrides or [])
    if dry_run:
        from rlcs.grade_batches import grade_plan
        from rlcs.plan import print_plan

        print_plan(Console(), settings, grade_plan(settings))
        return
    from rlcs.grade import run_grade

    hide_loading_bars()
    say(f"written: {run_grade(settings, resume=resume)}")


@grade.command("merge")
def grade_merge(
    graders: Annotated[list[Path], typer.Argument(metavar="GRADED.jsonl...", help="the same problems graded by each model")],
    out: Annotated[Path, typer.Option("-o", "--out", help="file to write: the lines of the first with the joint grade")],
    weight: Annotated[list[float] | None, typer.Option(help="what an answer of each grader counts, in their order")] = None,
    human: Annotated[Path | None, typer.Option(help="JSON Lines of id and tier: people's labels of difficulty")] = None,
    human_weight: Annotated[float | None, typer.Option(min=0, help="answers a human label counts as (default: fitted)")] = None,
    tiers: Annotated[str | None, typer.Option(help="names and pass rates by turns: hard,0.3,medium,0.7,easy")] = None,
    keep_tiers: Annotated[bool, typer.Option("--keep-tiers", help="leave each problem the tier of the first file")] = False,
) -> None:
    """Several graders and human labels put together; how far they agree is shown (docs/grade.md)."""
    from rlcs.grade_merge import merge_grades
    from rlcs.grade_tables import merge_tables, summary_table
    from rlcs.grades import DEFAULT_TIERS, Tiers

    scale = Tiers.of(DEFAULT_TIERS) if tiers is None else Tiers.parse(tiers)
    merged = merge_grades(
        graders,
        out,
        tiers=scale,
        weights=weight or (),
        human=human,
        human_weight=human_weight,
        keep_tiers=keep_tiers,
    )
    console = Console()
    for table in (*merge_tables(merged), summary_table(merged.lines, scale)):
        console.print(table)
    for warning in merged.warnings:
        console.print(f"[yellow]warning[/]: {escape(warning)}", highlight=False, soft_wrap=True)
    say(f"written: {out}")
