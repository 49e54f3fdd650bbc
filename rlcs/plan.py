"""What a command would do, for `--dry-run`: the resolved configuration, then its size, without loading a model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlcs.config import to_yaml
from rlcs.eval_config import EvalConfig
from rlcs.memory_plan import memory_table, rl_memory, sft_memory
from rlcs.problems import load_problems
from rlcs.prompt_length import longest_prompt
from rlcs.rl_config import RlConfig
from rlcs.verl.dry_run import command_lines, verl_tables
from sft.config import SftConfig
from sft.data import load_examples

Plan = Sequence[tuple[str, str] | Table]
"""Names and values, and tables that follow them."""


def sft_plan(config: SftConfig) -> Plan:
    """Examples, epochs, optimiser steps and memory of an SFT run. Raises what loading the data raises, if the file exists."""
    rows: list[tuple[str, str] | Table] = [("model", _presence(Path(config.model)))]
    if config.data.exists():
        loaded = load_examples(config.data, style=config.style)
        steps = config.total_steps(len(loaded.examples))
        rows += [
            ("examples", _by_domain(example.domain for example in loaded.examples)),
            ("rejected", ", ".join(f"{count} {reason}" for reason, count in loaded.rejected.items()) or "none"),
            ("optimiser steps", f"{steps:,} of {config.batch_size} examples"),
            ("examples seen", f"{steps * config.batch_size:,}, about {config.nothink_ratio:.0%} of them without thinking"),
        ]
    else:
        rows.append(("examples", _presence(config.data)))
    rows.append(("run directory", _presence(config.out)))
    try:
        rows += verl_tables(config) if config.engine == "verl" else [memory_table(sft_memory(config))]
    except FileNotFoundError as error:
        rows.append(("memory", f"unknown: {error}"))
    return rows


def rl_plan(config: RlConfig) -> Plan:
    """Problems, groups, rollouts and memory of an RL run. Raises what loading the problems raises, if the file exists."""
    problems = load_problems(config.problems) if config.problems.exists() else None
    response_tokens = config.most_response_tokens
    least = config.groups_per_step * config.group_size
    most = least * _most_generated(config)
    rows: list[tuple[str, str] | Table] = [
        ("model", _presence(Path(config.model))),
        (
            "problems",
            _presence(config.problems) if problems is None else _by_domain(problem.domain for problem in problems),
        ),
        ("steps", f"{config.steps:,} of {config.groups_per_step} groups of {config.group_size}"),
        ("rollouts a step", f"{least:,}" if most == least else f"{least:,} to {most:,.0f} (oversampling)"),
        ("rollouts in all", f"at most {config.steps * most:,.0f}"),
        ("tokens a response", f"at most {response_tokens}"),
        ("run directory", _presence(config.out)),
    ]
    prompt_tokens, how = longest_prompt(problems, config.model)
    rows.append(("longest prompt", f"{prompt_tokens:,} tokens ({how})"))
    share = prompt_tokens / (prompt_tokens + response_tokens)
    try:
        rows += verl_tables(config, share) if config.engine == "verl" else [memory_table(rl_memory(config, prompt_tokens))]
    except FileNotFoundError as error:
        rows.append(("memory", f"unknown: {error}"))
    return rows


def _most_generated(config: RlConfig) -> float:
    """Groups that a step of the sampler may generate for each one it wants."""
    match config.sampler:
        case "rlcs":
            return config.curriculum.max_expansion
        case "glm-tiers":
            return config.glm_tiers.max_expansion
        case "dapo":
            return config.dapo.batch_ratio * config.dapo.max_batches
        case "greso":
            return config.greso.batch_ratio * config.greso.max_batches
    return 1.0


def eval_plan(config: EvalConfig) -> Plan:
    """Problems and responses of an evaluation. Raises what loading the problems raises."""
    problems = load_problems(config.problems)
    domains = Counter(problem.domain for problem in problems)
    if config.max_per_domain is not None:
        domains = Counter({domain: min(count, config.max_per_domain) for domain, count in domains.items()})
    each = len(config.modes) * (config.samples + config.greedy)
    return [
        ("model", _presence(Path(config.model))),
        ("problems", _by_domain(domains.elements())),
        ("modes", ", ".join(config.modes)),
        ("responses", f"{domains.total() * each:,}"),
        ("written to", _presence(config.out)),
    ]


def print_plan(console: Console, config: BaseModel, plan: Plan) -> None:
    """The resolved configuration as YAML, then the plan."""
    console.print(escape(to_yaml(config)), highlight=False)
    table = Table(title="plan", show_header=False)
    for row in plan:
        if not isinstance(row, Table):
            table.add_row(row[0], escape(row[1]))
    console.print(table)
    for further in plan:
        if isinstance(further, Table):
            console.print(further)
    if isinstance(config, RlConfig | SftConfig) and config.engine == "verl":
        console.print(escape(command_lines(config)), highlight=False, soft_wrap=True)


def _presence(path: Path) -> str:
    return f"{path} ({'exists' if path.exists() else 'does not exist yet'})"


def _by_domain(domains: object) -> str:
    counts = Counter(domains)  # type: ignore[call-overload]
    return f"{counts.total():,}: " + ", ".join(f"{count:,} {domain}" for domain, count in sorted(counts.items()))
