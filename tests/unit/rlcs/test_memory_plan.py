"""Memory estimates against what models, optimisers, caches and autograd really hold."""

import io
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoConfig,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from typer.testing import CliRunner

from rlcs import cli
from rlcs.config import load_config
from rlcs.critic import Critic
from rlcs.memory_model import Architecture, Trained, activation_bytes, cache_bytes, logit_bytes, vision_bytes
from rlcs.memory_plan import DESCRIPTIONS, NOMINAL_GPU, config_of, memory_table, rl_memory, sft_memory
from rlcs.nano.build import build_model
from rlcs.rl_config import RlConfig
from rollout import shared_prefix, transformers_engine
from rollout.attention import VARLEN
from rollout.chat import ChatRenderer
from rollout.engine import SamplingParams
from rollout.forward import MediaBatch, PackedInputs, hidden_states
from rollout.head import head_logprobs
from rollout.lora import add_adapters
from rollout.shared_prefix import SharedPrefixCache
from rollout.transformers_engine import TransformersEngine
from sft.config import LoraConfig, SftConfig
from sft.optimizers import build_optimizer

ROOT = Path(__file__).parents[3]
NANO = ROOT / "assets" / "nano"
GPU_CONFIGS = sorted(path for verb in ("sft", "rl") for path in (ROOT / "configs" / verb).glob("*_lora.yaml")) + sorted(
    path for verb in ("sft", "rl") for path in (ROOT / "configs" / verb).glob("*_full.yaml")
)


@pytest.fixture(scope="module")
def nano() -> PreTrainedModel:
    model = build_model(seed=0)
    model.config._attn_implementation = VARLEN
    return model


def qwen() -> PreTrainedModel:
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=288, num_hidden_layers=4, **sizes, tie_word_embeddings=True))
    model.config._attn_implementation = VARLEN
    return model


def qwen3_vl() -> PreTrainedModel:
    text = {"vocab_size": 288, "num_hidden_layers": 4, "hidden_size": 192, "intermediate_size": 512, "head_dim": 32}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    vision = {"depth": 3, "hidden_size": 96, "num_heads": 3, "intermediate_size": 384, "out_hidden_size": 192, "patch_size": 14}
    config = Qwen3VLConfig(
        text_config={**text, **heads, "rope_parameters": rope},
        vision_config={**vision, "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 64},
        image_token_id=262,
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.config._attn_implementation = VARLEN
    return model


def kept(model: PreTrainedModel, run: Callable[[], torch.Tensor]) -> int:
    """Bytes of distinct storages that autograd keeps of `run`, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    assert result.requires_grad
    return sum(size for size, _ in found.values())


def text(*lengths: int) -> PackedInputs:
    places = torch.cat([torch.arange(length) for length in lengths])
    ends = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    return PackedInputs(torch.randint(0, 200, (sum(lengths),)), places.expand(3, -1), ends, None)


@pytest.mark.parametrize("build", [build_model, qwen, qwen3_vl])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_gradients_and_optimiser_are_counted_exactly(build: Any, dtype: torch.dtype) -> None:
    model = build().to(dtype)
    skeleton = Architecture.of(model.config)
    trained = Trained.of(skeleton, None, dtype.itemsize)
    assert skeleton.parameters == sum(parameter.numel() for parameter in model.parameters())
    config = RlConfig(model="m", problems="p", out="o")  # type: ignore[arg-type]
    optimizer = build_optimizer([{"params": list(model.parameters())}], config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    copies = [master for group in optimizer.param_groups for master in group["params"] if dtype == torch.bfloat16]
    assert trained.copies == sum(master.nbytes for master in copies)
    assert trained.gradients == 4 * skeleton.parameters
    assert trained.optimizer == sum(value.nbytes for state in optimizer.state.values() for value in state.values())


@pytest.mark.parametrize("build", [build_model, qwen3_vl])
@pytest.mark.parametrize("targets", ["decoder", "all", ["o_proj"]])
def test_adapters_are_counted_exactly(build: Any, targets: Any) -> None:
    model = build().bfloat16()
    lora = LoraConfig(rank=3, targets=targets)
    trained = Trained.of(Architecture.of(model.config), lora, 2)
    add_adapters(model, **lora.model_dump(), seed=0)
    own = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained.numel == sum(parameter.numel() for parameter in own) and trained.tensors == len(own)
    assert trained.gradients == sum(parameter.nbytes for parameter in own)
    assert trained.vision == (targets == "all")


@pytest.mark.parametrize("build", [build_model, qwen, qwen3_vl])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
@pytest.mark.parametrize("again", [False, True])
def test_activations_are_estimated_within_half_of_what_autograd_keeps(
    build: Any, dtype: torch.dtype, lora: LoraConfig | None, again: bool
) -> None:
    """Without the gradients of a layer, which the estimate adds. Checkpointed layers are kept one at a time."""
    model = build().to(dtype)
    model.config._attn_implementation = VARLEN
    skeleton = Architecture.of(model.config)
    if lora:
        add_adapters(model, **lora.model_dump(), seed=0)
    model.train()
    packed = text(180, 140)
    measured = kept(model, lambda: hidden_states(model, packed))
    if again:
        one = (measured - kept_by_ends(model)) / skeleton.layers
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        measured = kept(model, lambda: hidden_states(model, packed)) + one
    trained = Trained.of(skeleton, lora, dtype.itemsize)
    backward = 320 * dtype.itemsize * (4 * skeleton.inner + 2 * skeleton.hidden)
    estimate = activation_bytes(skeleton, trained, 320, dtype.itemsize, checkpointing=again) - backward
    assert 0.95 < estimate / measured < 1.5


def test_large_models_do_not_keep_two_tensors_of_the_mlps_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rollout.gating`, of which `test_gating` measures how much less is held."""
    skeleton = Architecture.of(build_model().config)
    trained = Trained.of(skeleton, None, 2)

    def of(checkpointing: bool) -> float:
        return activation_bytes(skeleton, trained, 320, 2, checkpointing=checkpointing)

    small, small_again = of(False), of(True)
    monkeypatch.setattr("rlcs.memory_model.LARGE", skeleton.parameters * 2 - 1)
    assert small - of(False) == 320 * skeleton.layers * 2 * 2 * skeleton.inner
    assert of(True) == small_again


def kept_by_ends(model: PreTrainedModel) -> float:
    return 320 * 3.0 * model.config.get_text_config().hidden_size * model.dtype.itemsize


@pytest.mark.parametrize("build", [build_model, qwen3_vl])
@pytest.mark.parametrize("again", [False, True])
def test_the_vision_towers_activations_are_estimated_within_half(build: Any, again: bool) -> None:
    model = build()
    model.config._attn_implementation = VARLEN
    skeleton = Architecture.of(model.config)
    model.train()
    pixels = torch.randn(2 * 64, 3 * 2 * 14 * 14)
    media = MediaBatch(pixels, torch.tensor([[1, 8, 8]] * 2), torch.arange(32))
    visual = model.model.visual

    def run() -> torch.Tensor:
        seen = visual(media.pixels_PC, grid_thw=media.grids_N3)
        return sum(getattr(seen, "deepstack_features", None) or [], seen.pooler_output)

    whole = measured = kept(model, run)
    if again:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        measured = kept(model, run)
        measured += (whole - measured) // skeleton.vision_layers
    backward = 128 * 4 * 4 * skeleton.vision_inner
    estimate = vision_bytes(skeleton, Trained.of(skeleton, None, 4), 32, 4, checkpointing=again) - backward
    assert 0.9 < estimate / measured < 1.5


def test_features_of_inner_layers_are_held_for_the_decoder_of_qwen3_vl() -> None:
    """Beside a layer of the frozen tower: two more features a visual token."""
    model = qwen3_vl()
    skeleton = Architecture.of(model.config)
    seen = model.model.visual(torch.randn(64, 3 * 2 * 14 * 14), grid_thw=torch.tensor([[1, 8, 8]]))
    held = sum(one.nbytes for one in seen.deepstack_features)
    frozen = Trained.of(skeleton, LoraConfig(rank=4), 4)
    alone = replace(skeleton, deep_mergers=0)
    with_deep, without = (vision_bytes(one, frozen, 16, 4, checkpointing=False) for one in (skeleton, alone))
    assert with_deep - without == held


class Held(TorchDispatchMode):
    """The most bytes that tensors made under it, and still alive, have held together."""

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        place = found.untyped_storage().data_ptr() if isinstance(found, torch.Tensor) else 0
        if isinstance(found, torch.Tensor) and place not in self._alive and found._base is None:
            self._alive[place] = found.untyped_storage().nbytes()
            weakref.finalize(found, self._alive.pop, place, None)
            self.most = max(self.most, sum(self._alive.values()))
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("entropy", [False, True])
def test_logits_of_a_tile_are_what_the_head_holds(entropy: bool, dtype: torch.dtype) -> None:
    rows, hidden, vocabulary = 3000, 16, 30_000
    head = torch.nn.Linear(hidden, vocabulary, bias=False, dtype=dtype).requires_grad_(False)
    states = torch.randn(rows, hidden, dtype=dtype, requires_grad=True)
    with Held() as held:
        head_logprobs(head, states, torch.randint(vocabulary, (rows,)), with_entropy=entropy)[0].sum().backward()
    model = replace(Architecture.of(build_model().config), hidden=hidden, vocabulary=vocabulary)
    estimate = logit_bytes(model, rows, dtype.itemsize, entropy=entropy, on_gpu=False)
    assert 0.8 < estimate / held.most < 1.3
    assert estimate < rows * vocabulary * 4


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("new_tokens", [1, 2, 65, 66, 129, 200])
def test_the_cache_of_the_transformers_engine_is_counted_exactly(
    nano: PreTrainedModel, new_tokens: int, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shared:  # as longer prompts are
        monkeypatch.setattr(shared_prefix, "_SHORT", 0)
        monkeypatch.setattr(shared_prefix, "_FEW", 0)
    caches: list[SharedPrefixCache] = []

    class Seen(SharedPrefixCache):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caches.append(self)

    monkeypatch.setattr(transformers_engine, "SharedPrefixCache", Seen)
    renderer = ChatRenderer.from_pretrained(NANO)
    monkeypatch.setattr(renderer, "stop_ids", ())  # every sequence runs to its end
    prompts = [renderer.prompt([{"role": "user", "content": text}], root=NANO, thinking=True) for text in ("1+1", "2+22")]
    engine = TransformersEngine(nano, renderer, max_batch=64)
    engine.generate(prompts, 3, SamplingParams(max_new_tokens=new_tokens), generator=torch.Generator().manual_seed(0))
    (cache,) = caches
    held = sum(tensor.nbytes for stored in (*cache._prefix, *cache._generated) for tensor in stored or ())
    longest = max(len(prompt.encoded.input_ids) for prompt in prompts)
    assert cache_bytes(Architecture.of(nano.config), 2, longest, 6, new_tokens, 4) == held


def rl(**changes: Any) -> RlConfig:
    given = {"model": str(NANO), "problems": "p.jsonl", "out": "o", "groups_per_step": 4, "group_size": 4}
    return RlConfig(**{**given, **changes})


def sizes(plan: Any) -> dict[str, float]:
    return {row.name: row.size for row in plan.rows}


def test_a_pass_and_the_generation_take_turns_and_a_vllm_engine_stays() -> None:
    plan = rl_memory(rl(), 100)
    part = sizes(plan)
    state = part["weights"] + part["gradients"] + part["optimiser"]
    passing = part["activations"] + part["logits"] + part["vision tower"]
    assert plan.total == pytest.approx(state + max(passing, part["KV cache"] + part["sampling"]))
    served = rl_memory(rl(rollout="vllm"), 100)
    assert served.total == pytest.approx(state + passing + part["weights"] + 2**30)


def test_a_kl_penalty_holds_the_policys_weights_twice_but_with_lora() -> None:
    plain, held = rl_memory(rl(), 100), rl_memory(rl(kl_coef=0.01), 100)
    assert held.total - plain.total == plain.rows[0].size
    assert "reference" in [row.name for row in held.rows]
    assert rl_memory(rl(kl_coef=0.01, lora=LoraConfig()), 100).total == rl_memory(rl(lora=LoraConfig()), 100).total


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=4)])
def test_a_critic_holds_its_weights_gradients_and_moments(nano: PreTrainedModel, lora: LoraConfig | None) -> None:
    plain, held = rl_memory(rl(lora=lora), 100), rl_memory(rl(lora=lora, advantage="gae"), 100)
    model = build_model(seed=0)
    if lora is not None:
        add_adapters(model, **lora.model_dump(), seed=0)
    critic = Critic(model, rl(lora=lora, advantage="gae"))
    trained = [value for value in critic.model.parameters() if value.requires_grad]
    for value in trained:
        value.grad = torch.zeros_like(value)
    critic.optimizer.step()
    moments = [tensor for state in critic.optimizer.state.values() for tensor in state.values()]
    everything = [*critic.model.parameters(), *(value.grad for value in trained if value.grad is not None), *moments]
    assert sizes(held)["critic"] == sum(tensor.numel() * tensor.itemsize for tensor in everything)
    assert held.total - plain.total == sizes(held)["critic"]


def test_vllms_share_of_a_gpu_gives_way_asleep_and_a_server_takes_none() -> None:
    gpu = {"device": "cuda", "rollout": "vllm", "vllm": {"gpu_memory": 0.25}}
    awake = rl_memory(rl(**gpu), 100)
    assert sizes(awake)["vLLM"] == (awake.available or NOMINAL_GPU) / 4 and not awake.warnings
    asleep = rl_memory(rl(**{**gpu, "vllm": {"gpu_memory": 0.25, "sleep": True}}), 100)
    passing = sum(sizes(awake)[name] for name in ("activations", "logits", "vision tower"))
    assert asleep.total == pytest.approx(awake.total - min(passing, sizes(awake)["vLLM"]))
    served = rl_memory(rl(**{**gpu, "vllm": {"server": "http://127.0.0.1:8000"}}), 100)
    assert "vLLM" not in sizes(served) and served.total == pytest.approx(awake.total - sizes(awake)["vLLM"])


def test_a_share_of_the_gpu_too_small_for_a_group_is_warned_of() -> None:
    changes = {"model": "models/GLM-4.1V-9B-Thinking", "device": "cuda", "rollout": "vllm", "think_tokens": 4096}
    plan = rl_memory(rl(**changes, dtype="bfloat16", lora=LoraConfig(), vllm={"gpu_memory": 0.28}), 1000)
    assert any("fewer than a group" in warning for warning in plan.warnings)


def test_lora_and_checkpointing_are_seen_in_the_plan() -> None:
    full, lora = (sizes(sft_memory(SftConfig(model=str(NANO), data="d", out="o", lora=lora))) for lora in (None, LoraConfig()))  # type: ignore[arg-type]
    assert lora["optimiser"] < full["optimiser"] / 2 and lora["vision tower"] < full["vision tower"]
    again = sizes(sft_memory(SftConfig(model=str(NANO), data="d", out="o", gradient_checkpointing=True)))  # type: ignore[arg-type]
    assert again["activations"] < full["activations"] / 2


def test_what_does_not_fit_is_warned_of_with_a_mend() -> None:
    plan = sft_memory(SftConfig(model="models/GLM-4.1V-9B-Thinking", data="d", out="o", device="cuda", dtype="float32"))  # type: ignore[arg-type]
    assert any("do not fit" in warning and "use lora" in warning for warning in plan.warnings)
    screen = io.StringIO()
    Console(file=screen, width=160).print(memory_table(plan))
    assert "10,292,777,472 parameters" in screen.getvalue() and "is not there yet" in screen.getvalue()
    assert "warning" in screen.getvalue()


def test_float32_copies_and_moments_of_eight_bits_are_in_the_plan() -> None:
    """Of each of n numbers: 4 bytes of a copy, and 8 of moments or 2."""
    half, float32 = (sizes(rl_memory(rl(dtype=dtype), 100)) for dtype in ("bfloat16", "float32"))
    lean = sizes(rl_memory(rl(dtype="bfloat16", optimizer="adamw_8bit"), 100))
    n = half["weights"] / 2
    assert (half["optimiser"] - float32["optimiser"]) / n == pytest.approx(4)
    assert (half["optimiser"] - lean["optimiser"]) / n == pytest.approx(6, rel=0.01)
    lora = sizes(rl_memory(rl(dtype="bfloat16", lora=LoraConfig()), 100))
    assert lora["optimiser"] == sizes(rl_memory(rl(lora=LoraConfig()), 100))["optimiser"]  # adapters are float32 anyway


def test_an_engine_that_generates_beside_the_update_has_weights_and_memory_of_its_own() -> None:
    plan, ahead = rl_memory(rl(), 100), rl_memory(rl(max_staleness=1), 100)
    part = sizes(plan)
    passing, generating = part["activations"] + part["logits"] + part["vision tower"], part["KV cache"] + part["sampling"]
    assert ahead.total - plan.total == pytest.approx(part["weights"] + min(passing, generating))


def test_a_model_without_checkpoint_and_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"models/none: .* nor is there a description of it in configs/models"):
        config_of("models/none")


def test_a_family_that_the_trainer_refuses_has_no_plan() -> None:
    with pytest.raises(ValueError, match="family 'qwen2_vl'"):
        Architecture.of(Qwen2VLConfig())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("GLM-4.1V-9B-Thinking", 10_292_777_472),
        ("Qwen3-VL-4B-Instruct", 4_437_815_808),
        ("Qwen3-4B", 4_022_468_096),
        ("Qwen3-1.7B", 1_720_574_976),
    ],
)
def test_descriptions_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    """As Hugging Face counts them in the published checkpoints (tied heads once)."""
    assert Architecture.of(AutoConfig.from_pretrained(DESCRIPTIONS / name)).parameters == parameters


@pytest.mark.parametrize("path", GPU_CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_gpu_configurations_fit_a_card_of_80_gb_and_say_that_they_were_not_run(path: Path) -> None:
    assert "Not yet run on GPU" in path.read_text(encoding="utf-8").splitlines()[0]
    is_rl = path.parent.name == "rl"
    config = load_config(RlConfig if is_rl else SftConfig, path)
    plan = rl_memory(config, 2048) if isinstance(config, RlConfig) else sft_memory(config)
    assert config.device == "cuda" and not plan.warnings and plan.total < 0.95 * NOMINAL_GPU


def test_a_dry_run_needs_neither_data_nor_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = CliRunner().invoke(cli.app, ["rl", str(ROOT / "configs" / "rl" / "glm41v_9b_lora.yaml"), "--dry-run"])
    assert found.exit_code == 0, found.output
    assert "does not exist yet" in found.output and "10,292,777,472 parameters" in found.output
    found = CliRunner().invoke(cli.app, ["rl", str(ROOT / "configs" / "rl" / "nano.yaml"), "model=models/none", "--dry-run"])
    assert found.exit_code == 0 and "memory" in found.output and "unknown" in found.output


def test_the_longest_prompt_is_measured_where_the_model_is_there_and_estimated_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlcs.problems import load_problems
    from rlcs.prompt_length import longest_prompt

    lines = [
        {"id": str(n), "domain": "math", "messages": [{"role": "user", "content": "1+1" * n}], "answer": "2"}
        for n in (3, 90, 7)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    problems = load_problems(tmp_path / "p.jsonl")
    renderer = ChatRenderer.from_pretrained(NANO)
    expected = len(renderer.prompt(problems[1].messages, root=tmp_path, thinking=True).encoded.input_ids)
    assert longest_prompt(problems, str(NANO)) == (expected, "90")
    assert longest_prompt(problems, "models/none") == (91, "estimated; 90")
    assert longest_prompt(None, "models/none") == (1024, "assumed")
