"""What our plug-ins cost beside plain verl, and what one process does for a very large step.

    python benchmarks/verl_overhead.py steps [--steps 10] [--rounds 2] [--groups 16]
    python benchmarks/verl_overhead.py scale [--problems 1000000] [--rollouts 100000] [--tokens 256]

`steps`: GRPO on the CPU through Ray, FSDP2 and vLLM with the same policy, problems and lengths, once as `rlcs rl engine=verl`
runs it and once as verl comes: its trainer, dataset, agent loop, advantages and loss, and a reward that compares strings. The
policy is a small text model taught to think a fixed text and then answer 1 or 2 at random, so that responses are of one
length and nearly every group has both. Contenders take turns; seconds are medians over steps (by verl's own clock, the first
two left out) of all rounds.

`scale`, without Ray: seconds, of a core, of what the trainer's process does in a step of `--rollouts` responses of `--tokens`
tokens, in groups of 8, over `--problems` problems: draw, observe, select, read the samples, metrics, rollouts file, order and
weights of the rows, and the sampler's state to and from disk; and the responses that one core scores a second. Writes
benchmarks/results/verl_overhead.json, one entry for each part.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measured_on import measured_on

from rewards import ScorePool, Verdict
from rlcs.difficulty import Difficulty
from rlcs.problems import Problem
from rlcs.rl_config import RlConfig
from rlcs.rollout_log import parquet_bytes, rollout_table, step_metrics
from rlcs.samplers import SAMPLERS
from rlcs.scoring import ScoredRollouts, group_fates

RESULTS = Path(__file__).resolve().parent / "results" / "verl_overhead.json"
GROUP = 8
DOMAINS = ("math", "ocr", "chart", "gui", "video")


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> tuple[float, Any]:
    """(seconds, value); by default seconds of this process on its cores, whatever else the machine does."""
    began = clock()
    value = call()
    return clock() - began, value


def scale(problems: int, rollouts: int, tokens: int) -> dict[str, Any]:
    """Seconds of each part of one step."""
    from rlcs.verl.collected import Asked, scored_rollouts
    from rlcs.verl.objective import row_advantages, row_weights
    from rlcs.verl.reward import verdict_fields
    from rlcs.verl.sampling import update_order

    rng, groups = np.random.default_rng(0), rollouts // GROUP
    domains = [DOMAINS[index % 5] for index in range(problems)]
    sampler = SAMPLERS["rlcs"](domains, Difficulty(domains, [None] * problems, [None] * problems), group_size=GROUP, seed=0)
    sampler.draw(groups)
    seconds: dict[str, float] = {}
    seconds["draw"], indices = timed(lambda: sampler.draw(groups))

    posed = [_problem(int(index)) for index in indices]
    asked = [Asked(f"u{place}", place) for place in range(groups)]
    verdicts = (Verdict(1.0, True, "ok", "7"), Verdict(0.0, False, "ok", "8", "different"))
    rows = {
        f"u{place}_{session}_0": {
            "responses": torch.from_numpy(rng.integers(0, 50_000, tokens)),
            "response_mask": torch.ones(tokens, dtype=torch.int64),
            "rollout_log_probs": torch.full((tokens,), -0.5),
            "extra_fields": {
                "finish_reason": "stop",
                "text": "<think>" + "word " * tokens + "</think>\n<|begin_of_box|>7<|end_of_box|>",
                "seconds": 1.0,
                "reward_extra_info": verdict_fields(verdicts[int(rng.random() < 0.5)]),
            },
        }
        for place in range(groups)
        for session in range(GROUP)
    }
    versions = dict.fromkeys(rows, 1)
    thinking = np.ones(groups, bool)
    seconds["read samples"], scored = timed(lambda: scored_rollouts(asked, posed, thinking, rows, versions, GROUP))
    scored = ScoredRollouts(indices, scored.problems, scored.prompts, scored.completions, scored.verdicts)
    seconds["observe"], _ = timed(lambda: sampler.observe(indices, scored.outcomes_PG, 0, scored.tokens_P))
    seconds["select"], fates = timed(lambda: group_fates(scored, sampler, groups))
    uids = np.repeat([group.uid for group in asked], GROUP)
    rewards_B = torch.from_numpy(scored.rewards_PG.reshape(-1)).float()
    seconds["advantages"], advantages_B = timed(lambda: row_advantages(rewards_B, uids, normalise=True))
    lengths = rng.integers(tokens // 2, tokens * 2, rollouts).tolist()
    seconds["order of rows, 64 ranks"], order = timed(lambda: update_order(lengths[: rollouts // 64 * 64], 64, 1, rng))
    config = RlConfig(model="-", problems="-", out="-")
    seconds["weights of rows"], _ = timed(lambda: row_weights(torch.tensor(lengths[: len(order[1])]), order[1], config))
    seconds["metrics"], _ = timed(lambda: step_metrics(scored, fates))
    advantages_PG = advantages_B.double().numpy().reshape(groups, GROUP)
    seconds["rollouts file"], _ = timed(lambda: parquet_bytes(rollout_table(scored, fates, advantages_PG, 0, tokens=True)))
    without, _ = timed(lambda: parquet_bytes(rollout_table(scored, fates, advantages_PG, 0, tokens=False)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.pt"
        seconds["save sampler"], _ = timed(lambda: torch.save(sampler.state_dict(), path))
        seconds["load sampler"], _ = timed(lambda: sampler.load_state_dict(torch.load(path, weights_only=False)))
    return {
        "problems": problems,
        "rollouts": rollouts,
        "tokens": tokens,
        "seconds": {name: round(spent, 3) for name, spent in seconds.items()},
        "rollouts_file_without_log_tokens": round(without, 3),
        "seconds_a_step": round(sum(spent for name, spent in seconds.items() if not name.endswith("sampler")), 2),
        "scored_a_second_and_core": round(_scored_a_second(), 1),
    }


def _problem(index: int) -> Problem:
    messages = [{"role": "user", "content": f"What is {index} + 1?"}]
    return Problem(id=f"p{index}", domain=DOMAINS[index % 5], messages=messages, answer=str(index + 1), tier="1")


def _scored_a_second(rows: int = 4000) -> float:
    """Responses to sums that are judged in a second of a core, of the scoring process's and this one's."""
    import psutil

    def on_cores() -> float:
        others = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        return time.process_time() + sum(spent.user + spent.system for spent in others)

    batch = [
        {
            "id": str(i),
            "domain": "math",
            "answer": str(i),
            "response": f"<think>so</think>\n<|begin_of_box|>{i + i % 2}<|end_of_box|>",
        }
        for i in range(rows)
    ]
    with ScorePool(1) as pool:
        pool.score_batch(batch[:100])
        spent, _ = timed(lambda: pool.score_batch(batch), on_cores)
    return rows / spent


THOUGHT = "so " * 16
PARTS = ("step", "gen", "adv", "update_actor", "update_weights")


def steps(number: int, rounds: int, groups: int) -> dict[str, Any]:
    """Median seconds of a step and its parts, for each contender, and the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _problems_and_policy(root, groups)
        seconds: dict[str, list[dict[str, float]]] = {"rlcs": [], "verl": []}
        for turn in range(rounds):
            for contender, found in seconds.items():
                log = root / f"{contender}-{turn}.jsonl"
                environment = os.environ | {"VERL_FILE_LOGGER_PATH": str(log), "OMP_NUM_THREADS": "1"}
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    __file__,
                    "run",
                    contender,
                    str(root),
                    str(number),
                    str(groups),
                    str(turn),
                ]
                done = subprocess.run(command, env=environment, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(f"{contender} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
                rows = [json.loads(line)["data"] for line in log.read_text().splitlines()]
                found += [row for row in rows if "timing_s/step" in row][2:-1]  # the last one saves a checkpoint
                print(f"{contender}, round {turn}: {median(row['timing_s/step'] for row in found):.2f} s a step", flush=True)
    table = {
        contender: {part: round(median(row.get(f"timing_s/{part}", 0.0) for row in found), 3) for part in PARTS}
        | {"response_length": round(median(row["response_length/mean"] for row in found), 1), "steps": len(found)}
        for contender, found in seconds.items()
    }
    return {"groups": groups, "group_size": GROUP, **table, "ratio": round(table["rlcs"]["step"] / table["verl"]["step"], 3)}


def _problems_and_policy(root: Path, groups: int) -> None:
    """problems.jsonl, the same as train.parquet in verl's form, and the policy."""
    import pandas as pd
    from transformers import LlamaConfig, LlamaForCausalLM

    from rlcs.learner import Learner, TrainSample
    from rlcs.nano.build import build_processor
    from rollout.attention import VARLEN
    from rollout.chat import ChatRenderer

    lines = [
        {"id": f"p{i}", "domain": "math", "messages": [{"role": "user", "content": f"pick {i}"}], "answer": str(1 + i % 2)}
        for i in range(8 * groups)
    ]
    (root / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        {
            "data_source": "math",
            "prompt": line["messages"],
            "reward_model": {"ground_truth": line["answer"]},
            "extra_info": {"index": i},
        }
        for i, line in enumerate(lines)
    ]
    pd.DataFrame(rows).to_parquet(root / "train.parquet")
    processor = build_processor()
    tokenizer = processor.tokenizer
    tokenizer.chat_template = processor.chat_template
    renderer = ChatRenderer(tokenizer)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4,
            max_position_embeddings=1024, eos_token_id=list(renderer.stop_ids), pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    model.config._attn_implementation = VARLEN
    samples = []
    for i, line in enumerate(lines[:32]):
        prompt = renderer.prompt(line["messages"], root=root, thinking=True).encoded
        said = f"<think>{THOUGHT}</think>\n<|begin_of_box|>{1 + (i // 2) % 2}<|end_of_box|>"
        ids = np.array([*renderer.special.encode(said), renderer.special.end_of_turn_id])
        # Advantage 1 against the likelihood itself makes the policy gradient that of supervised learning.
        samples.append(TrainSample(prompt.extended(ids, np.ones(len(ids), bool)), np.zeros(len(ids), np.float32), 1.0))
    config = RlConfig(model="-", problems="-", out="-", lr=2e-3, old_logprobs="trainer", token_budget=4096)
    learner = Learner(model, config)
    for step in range(40):
        learner.update(samples, step, np.random.default_rng(0))
    model.generation_config.eos_token_id = list(renderer.stop_ids)
    model.save_pretrained(root / "policy")
    tokenizer.save_pretrained(root / "policy")


def run(contender: str, root: Path, number: int, groups: int, turn: int) -> None:
    """One run of a contender, in a process of its own."""
    from rlcs.verl.launch import launch
    from rlcs.verl.translate import verl_overrides

    config = RlConfig(
        engine="verl", rollout="vllm", model=str(root / "policy"), problems=root / "problems.jsonl",
        out=root / f"{contender}-{turn}",
        sampler="uniform", steps=number, groups_per_step=groups, group_size=GROUP, nothink_ratio=0.0, think_tokens=96,
        answer_tokens=32, token_budget=4096, save_every=10_000, lr=1e-6, threads=1, table_every=0, verifier_workers=1,
        vllm={"max_length": 256, "max_sequences": 256, "cpu_cache_gib": 1},
    )  # fmt: skip
    settings = verl_overrides(config)
    plain = {
        "trainer.v1.trainer_mode": "sync",
        "algorithm.adv_estimator": "grpo",
        "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla",
        "data.custom_cls.path": "null",
        "data.custom_cls.name": "null",
        "data.train_files": str(root / "train.parquet"),
        "data.val_files": str(root / "train.parquet"),
        "actor_rollout_ref.rollout.agent.default_agent_loop": "single_turn_agent",
        "actor_rollout_ref.rollout.agent.agent_loop_manager_class": "null",
        "actor_rollout_ref.rollout.engine_kwargs.vllm": "{distributed_executor_backend:uni}",  # as ours on the CPU
        "reward.reward_manager.source": "register",
        "reward.reward_manager.name": "naive",
        "reward.reward_manager.module.path": "null",
    }
    changes = {"trainer.logger": "[file]"} | (plain if contender == "verl" else {})
    kept = [one for one in settings if one.lstrip("+").split("=", 1)[0] not in changes]
    added = ("agent_loop_manager_class", "engine_kwargs.vllm")
    kept += [f"{'+' * name.endswith(added)}{name}={value}" for name, value in changes.items()]
    if contender == "verl":
        kept += [f"reward.custom_reward_function.path={__file__}", "reward.custom_reward_function.name=same_answer"]
    launch(kept)


def same_answer(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """The plain contender's reward; verl has taken the box tokens out of the response."""
    found = re.search(r"(\d+)\s*$", solution_str)
    return float(found is not None and found[1] == ground_truth)


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["run"]:
        contender, root, *numbers = arguments[1:]
        run(contender, Path(root), *map(int, numbers))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["steps", "scale"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.part == "steps":
        found = steps(options.steps, options.rounds, options.groups)
    else:
        found = scale(options.problems, options.rollouts, options.tokens)
    report = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {}
    report[options.part] = {
        "command": " ".join(["python", "benchmarks/verl_overhead.py", *arguments]),
        **measured_on("verl"),
        **found,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report[options.part], indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
