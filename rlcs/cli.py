"""The `rlcs` command: one function a verb, each handing on to the module that does the work.

Modules are imported by the verb that needs them, so that `rlcs --help` and `rlcs score` do not wait for torch.
"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from rlcs.cli_common import ConfigFile, DryRun, Overrides, hide_loading_bars, say
from rlcs.grade_cli import grade
from rlcs.process import prepare_process
from sft.stop import Stopped, stopping_at_once

app = typer.Typer(
    name="rlcs",
    help="Post-training of vision-language models: SFT, verifiable rewards, RL with curriculum sampling.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Resume = Annotated[bool, typer.Option("--resume", help="go on from the run's last checkpoint")]

ResponseStyle = Annotated[Literal["box", "answer"], typer.Option(help="response format: GLM-4.5V's or GLM-4.1V's")]
Plugins = Annotated[list[str] | None, typer.Option(help="module that registers verifiers of your own; repeat for several")]


@app.command()
def sft(config: ConfigFile, overrides: Overrides = None, resume: Resume = False, dry_run: DryRun = False) -> None:
    """Supervised fine-tuning on box-token chains of thought (docs/sft.md)."""
    from rlcs.config import load_config
    from sft.config import SftConfig

    settings = load_config(SftConfig, config, overrides or [])
    if dry_run:
        from rlcs.plan import print_plan, sft_plan

        print_plan(Console(), settings, sft_plan(settings))
        return
    if settings.engine == "verl":
        from rlcs.verl.installed import require_verl

        require_verl()
        from rlcs.verl.sft import run_verl_sft as run_sft
    else:
        from sft.train import run_sft

    hide_loading_bars()
    with stopping_at_once() if settings.engine == "local" else nullcontext():
        say(f"final checkpoint: {run_sft(settings, resume=resume)}")


@app.command()
def rl(config: ConfigFile, overrides: Overrides = None, resume: Resume = False, dry_run: DryRun = False) -> None:
    """Reinforcement learning on verifiable rewards (docs/rl.md, docs/curriculum.md)."""
    from rlcs.config import load_config
    from rlcs.rl_config import RlConfig

    settings = load_config(RlConfig, config, overrides or [])
    if dry_run:
        from rlcs.plan import print_plan, rl_plan

        print_plan(Console(), settings, rl_plan(settings))
        return
    if settings.engine == "verl":
        from rlcs.verl.installed import require_verl

        require_verl()
        from rlcs.verl.launch import run_verl as run_rl
    else:
        from rlcs.rl import run_rl

    hide_loading_bars()
    with stopping_at_once() if settings.engine == "local" else nullcontext():
        say(f"final checkpoint: {run_rl(settings, resume=resume)}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory of `rlcs rl` or `rlcs sft`, of either engine")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Hugging Face directory to create")],
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="type of the weights of a verl run (default: the run's)")
    ] = None,
) -> None:
    """The policy of a run's last checkpoint as a Hugging Face directory (docs/verl.md)."""
    from rlcs.verl.export import export_run

    say(f"written: {export_run(run, out, dtype=dtype)}")


@app.command()
def serve(
    source: Annotated[Path, typer.Argument(metavar="CONFIG|MODEL", help="configuration or checkpoint to serve the policy of")],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(help="address to serve at; other machines reach 0.0.0.0, with a key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to serve at; 0: a free one")] = 8300,
    share: Annotated[Path | None, typer.Option(help="folder that runs may put weights in (their vllm.share)")] = None,
) -> None:
    """Serve a policy's vLLM to a run elsewhere, which sets vllm.server (docs/rollout.md)."""
    from rlcs.serve import run_serve

    hide_loading_bars()
    run_serve(source, overrides or [], host=host, port=port, share=share, ready=lambda at: say(f"serving {source} at {at}"))


@app.command()
def dashboard(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories of `rlcs rl`, of either engine")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on 127.0.0.1; 0: a free one")] = 8500,
    no_open: Annotated[bool, typer.Option("--no-open", help="do not open a browser")] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="write the page to one file instead of serving it")
    ] = None,
    media: Annotated[
        list[Path] | None, typer.Option(help="folder, besides a problem file's own, that images may lie in")
    ] = None,
) -> None:
    """A web page over live or finished runs: learning, difficulty, problems, rollouts (docs/dashboard.md)."""
    _require_dashboard()
    if export is not None:
        from rlcs.dashboard.export import export_page
        from rlcs.dashboard.runs import named_runs
        from rlcs.dashboard.watch import Watch

        say(f"written: {export_page(Watch(named_runs(runs), media=tuple(media or ())), export)}")
        return
    from rlcs.dashboard.serve import serve_dashboard

    def ready(address: str) -> None:
        say(f"dashboard at {address} (Ctrl-C ends it)")

    serve_dashboard(runs, port=port, open_browser=not no_open, ready=ready, media=media or ())


@app.command()
def top(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory of `rlcs rl`, of either engine")],
    once: Annotated[bool, typer.Option("--once", help="print it once and end")] = False,
) -> None:
    """A live or finished run in the terminal: domains, alerts, last rollouts (docs/top.md)."""
    from rlcs.top import run_top

    run_top(run, once=once)


@app.command("eval")
def evaluate(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    think_budget: Annotated[
        str | None, typer.Option(help="thinking budgets to compare, in tokens: 0,32,64; a plot of accuracy against them")
    ] = None,
) -> None:
    """pass@1, pass@k and greedy accuracy per domain, level and mode (docs/evaluation.md)."""
    from rlcs.config import load_config
    from rlcs.eval_config import EvalConfig

    settings = load_config(EvalConfig, config, overrides or [])
    if dry_run:
        from rlcs.plan import eval_plan, print_plan

        print_plan(Console(), settings, eval_plan(settings))
        return
    hide_loading_bars()
    if think_budget is not None:
        from rlcs.budget_eval import parse_budgets, run_budget_eval

        run_budget_eval(settings, parse_budgets(think_budget))
    else:
        from rlcs.evaluate import run_eval

        run_eval(settings)
    say(f"written: {settings.out}")


app.add_typer(
    grade, name="grade", help="pass rate of every problem of a file under a checkpoint: rlcs grade CONFIG (docs/grade.md)."
)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="directory to write report.md and its plots in")],
    before: Annotated[Path, typer.Option(help="output of `rlcs eval` before RL")],
    after: Annotated[Path, typer.Option(help="output of `rlcs eval` after RL")],
    rl: Annotated[Path, typer.Option(help="the RL run directory")],
    sft: Annotated[Path | None, typer.Option(help="the SFT run directory")] = None,
) -> None:
    """A page with plots: what RL changed on held-out problems, and how difficulty moved."""
    from rlcs.report import write_report

    say(f"written: {write_report(out, before=before, after=after, rl_run=rl, sft_run=sft)}")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON Lines of problems or SFT examples")],
    style: ResponseStyle = "box",
    plugin: Plugins = None,
) -> None:
    """Every error of a data file with its line and mend, and a table of what is in it (docs/data.md)."""
    from rlcs.check import check_file, print_report

    console = Console()
    sound = True
    for file in files:
        found = check_file(file, console=console, style=style, plugins=tuple(plugin or ()))
        print_report(found, console)
        sound = sound and found.ok
    if not sound:
        raise typer.Exit(1)


@app.command()
def tasks(
    out: Annotated[Path, typer.Argument(help="directory to create")],
    domain: Annotated[list[str] | None, typer.Option(help="a family to write; repeat for several (default: all)")] = None,
    level: Annotated[list[int] | None, typer.Option(help="a level to write; repeat for several (default: all)")] = None,
    train: Annotated[int, typer.Option(min=0, help="training problems of each domain")] = 1000,
    heldout: Annotated[int, typer.Option(min=0, help="held-out problems of each domain")] = 300,
    sft: Annotated[int, typer.Option(min=0, help="SFT examples of each domain")] = 1000,
    sft_heldout: Annotated[int, typer.Option(min=0, help="held-out SFT examples of each domain")] = 100,
    sft_level_ratio: Annotated[float, typer.Option(help="SFT examples of a level for each of the level before")] = 1.0,
    sft_quick_share: Annotated[float, typer.Option(help="SFT examples with a quick thought and no working")] = 0.0,
    sft_answer_share: Annotated[float, typer.Option(help="SFT examples without thought, working in the answer")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write procedural problems with images, and SFT examples that solve such problems (docs/tasks.md)."""
    from rlcs.tasks import write_tasks

    written = write_tasks(
        out,
        domains=domain,
        levels=level,
        train=train,
        heldout=heldout,
        sft=sft,
        sft_heldout=sft_heldout,
        sft_level_ratio=sft_level_ratio,
        sft_quick_share=sft_quick_share,
        sft_answer_share=sft_answer_share,
        seed=seed,
    )
    for name, lines in written.items():
        say(f"{out / name}: {lines} lines")


@app.command()
def score(
    in_file: Annotated[Path, typer.Argument(metavar="IN.jsonl", help="rows with id, domain, answer, response")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="verdicts, one line a row, in the file's order")] = None,
    explain: Annotated[str | None, typer.Option(metavar="ID", help="show how the rows of this id are judged, and stop")] = None,
    workers: Annotated[int, typer.Option(min=0, help="scoring processes; 0: one a core")] = 0,
    timeout_s: Annotated[float, typer.Option(help="seconds one response may take before its verdict is an abstention")] = 5.0,
    memory_mb: Annotated[int, typer.Option(help="memory of each scoring process")] = 2048,
    style: ResponseStyle = "box",
    check: Annotated[list[str] | None, typer.Option(help="style check all must pass (docs/rewards.md); repeatable")] = None,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar, no summary")] = False,
) -> None:
    """Score a file of responses with the verifiers of their domains (docs/rewards.md)."""
    from rewards.cli import explain_rows, score_file

    options: dict[str, Any] = {"timeout_s": timeout_s, "memory_mb": memory_mb, "style": style}
    options |= {"plugins": tuple(plugin or ()), "checks": tuple(check or ())}
    if (out is None) == (explain is None):
        raise ValueError("rlcs score needs either -o OUT.jsonl, to score the file, or --explain ID, to explain one of its rows")
    if explain is not None:
        explain_rows(in_file, explain, console=Console(), **options)
    elif out is not None:
        score_file(in_file, out, workers=workers or None, quiet=quiet, **options)


@app.command()
def audit(
    verifier: Annotated[list[str] | None, typer.Option(help="a verifier to probe; repeat for several (default: all)")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="a domain whose verifier to probe; repeat for several")] = None,
    references: Annotated[Path | None, typer.Option(help="JSON Lines with domain and answer: further references")] = None,
    json: Annotated[Path | None, typer.Option(help="write counts and problems to this file")] = None,
    judge: Annotated[bool, typer.Option("--judge", help="ask the judge that the environment configures")] = False,
    workers: Annotated[int, typer.Option(min=0, help="scoring processes; 0: one a core")] = 0,
    timeout_s: Annotated[float, typer.Option(help="seconds one response may take")] = 15.0,
    memory_mb: Annotated[int, typer.Option(help="memory of each scoring process")] = 2048,
    plugin: Plugins = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar, no tables")] = False,
) -> None:
    """Probe the verifiers with cheats; exit status 1 when any is paid (docs/audit.md)."""
    from rewards import audit as audits

    found = audits.audit(
        verifier or (),
        domain or (),
        references=references,
        out=json,
        workers=workers or None,
        timeout_s=timeout_s,
        memory_mb=memory_mb,
        plugins=tuple(plugin or ()),
        judge=judge,
        console=None if quiet else Console(stderr=True),
    )
    if not quiet:
        audits.print_report(found, Console())
    if not found.sound:
        raise typer.Exit(1)


def _require_dashboard() -> None:
    """Raises ModuleNotFoundError where the dashboard's libraries are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "plotly", "duckdb") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"rlcs dashboard needs {', '.join(missing)}; install them with: pip install 'rlcs[dashboard]'"
        )


def main() -> None:
    """The console script. Bad input ends in one clear message and exit status 2, a signal in 128 + its number; neither in a
    traceback.
    """
    prepare_process()
    try:
        app()
    except Stopped as stop:
        Console(stderr=True).print(escape(stop.said), highlight=False, soft_wrap=True)
        raise
    except (ValueError, OSError, FloatingPointError, MemoryError, ModuleNotFoundError) as error:
        if os.environ.get("RLCS_TRACEBACK"):
            raise
        Console(stderr=True).print(f"[red]error[/]: {escape(str(error))}", highlight=False, soft_wrap=True)
        Console(stderr=True).print("[dim](RLCS_TRACEBACK=1 shows where it was raised)[/]")
        sys.exit(2)


if __name__ == "__main__":
    main()
