"""LoRA adapters: which layers get one, what they compute, what the merged weights are, how they are saved and loaded."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForImageTextToText, Glm4vForConditionalGeneration, LlamaForCausalLM

from rlcs.nano.build import build_model
from rollout.chat import ChatRenderer
from rollout.engine import SamplingParams
from rollout.forward import hidden_states, load_policy, pack, token_logprobs
from rollout.lora import (
    adapter_base,
    adapter_parameters,
    add_adapters,
    base_digest,
    has_adapters,
    load_adapters,
    plain_parameters,
    plain_state_dict,
    save_adapters,
    target_layers,
)
from rollout.transformers_engine import TransformersEngine

RANK, ALPHA = 4, 10.0
SETTINGS = {"rank": RANK, "alpha": ALPHA, "dropout": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, processor) -> Path:
    """Four layers: with more than twenty targets peft looks for short names that mean the same."""
    path = tmp_path_factory.mktemp("base")
    build_model(seed=0, hidden_size=96, layers=4, vision_size=32, vision_depth=1).save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture
def adapted(base: Path) -> Glm4vForConditionalGeneration:
    """The base with adapters that do something."""
    model, _ = load_policy(str(base))
    add_adapters(model, **SETTINGS, targets="all")
    stir(model)
    return model


def stir(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in adapter_parameters(model):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def logprobs(model: torch.nn.Module, renderer: ChatRenderer, root: Path) -> torch.Tensor:
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "read it"}]
    packed = pack(
        [renderer.prompt([{"role": "user", "content": part}], root=root, thinking=True).encoded for part in (parts, "1+1")]
    )
    found = token_logprobs(model.eval(), hidden_states(model, packed)[:-1], packed.input_ids[1:])
    assert isinstance(found, torch.Tensor)
    return found


def test_targets_are_the_decoders_layers_or_all_or_those_named_and_never_the_head(nano) -> None:
    decoder, everything = target_layers(nano, "decoder"), target_layers(nano, "all")
    assert len(decoder) == 2 * 6 and all(name.startswith("model.language_model.layers.") for name in decoder)
    assert set(decoder) < set(everything) and any(name.startswith("model.visual.") for name in everything)
    assert not any("lm_head" in name for name in everything)
    assert set(target_layers(nano, ["q_proj"])) == {f"model.language_model.layers.{i}.self_attn.q_proj" for i in (0, 1)}
    assert set(target_layers(nano, ["layers.1.mlp.down_proj"])) == {"model.language_model.layers.1.mlp.down_proj"}


@pytest.mark.parametrize("unknown", ["q_prj", "lm_head", "proj"])
def test_an_unknown_target_is_refused_with_the_names_there_are(llama: LlamaForCausalLM, unknown: str) -> None:
    with pytest.raises(ValueError, match=rf"lora.targets: no linear layer is called '{unknown}'; found down_proj, .*q_proj"):
        target_layers(llama, ["q_proj", unknown])


@pytest.mark.parametrize("targets", ["decoder", "all", ["o_proj", "merger.down_proj"]])
def test_exactly_the_targets_get_adapters_which_alone_are_trained(base: Path, targets) -> None:
    model, _ = load_policy(str(base))
    expected = set(target_layers(model, targets))
    add_adapters(model, **SETTINGS, targets=targets)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.lora_{part}.default.weight" for name in expected for part in "AB"}


def test_new_adapters_change_nothing_and_are_drawn_from_the_seed_alone(base: Path, renderer, root) -> None:
    models = []
    for seed, global_seed in ((0, 1), (0, 2), (5, 1)):
        model, _ = load_policy(str(base))
        torch.manual_seed(global_seed)
        add_adapters(model, **{**SETTINGS, "seed": seed}, targets="decoder")
        models.append(model)
    plain, _ = load_policy(str(base))
    assert torch.equal(logprobs(models[0], renderer, root), logprobs(plain, renderer, root))
    first, same, other = ([value for _, value in adapter_parameters(model)] for model in models)
    assert all(torch.equal(one, two) for one, two in zip(first, same, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_merged_weights_are_w_plus_alpha_over_rank_b_a_and_all_others_the_bases(base: Path, adapted) -> None:
    plain, _ = load_policy(str(base))
    own, merged = dict(plain.named_parameters()), dict(plain_parameters(adapted))
    adapters = dict(adapter_parameters(adapted))
    assert list(merged) == list(own)
    targets = set(target_layers(plain, "all"))
    for name, value in own.items():
        layer, _, kind = name.rpartition(".")
        if layer in targets and kind == "weight":
            a, b = (adapters[f"{layer}.lora_{part}.default.weight"].double() for part in "AB")
            expected = value.double() + ALPHA / RANK * (b @ a)
            assert not torch.equal(merged[name], value)
            torch.testing.assert_close(merged[name].double(), expected, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(merged[name], value)


def test_a_checkpoint_of_the_merged_model_computes_what_the_adapted_one_does(
    adapted, processor, renderer, root, tmp_path: Path, base: Path
) -> None:
    adapted.save_pretrained(tmp_path, state_dict=plain_state_dict(adapted))
    processor.save_pretrained(tmp_path)
    merged, _ = load_policy(str(tmp_path))
    assert not has_adapters(merged)
    found, expected = logprobs(merged, renderer, root), logprobs(adapted, renderer, root)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    plain, _ = load_policy(str(base))
    assert (expected - logprobs(plain, renderer, root)).abs().max() > 1e-2


def test_tied_heads_stay_tied_in_the_merged_checkpoint(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1, tie_word_embeddings=True))
    add_adapters(model, **SETTINGS, targets="decoder")
    stir(model)
    model.save_pretrained(tmp_path, state_dict=plain_state_dict(model))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    ids = torch.arange(20)[None]
    torch.testing.assert_close(merged(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_the_engine_samples_from_active_adapters_as_from_merged_weights(adapted, renderer, root, tmp_path: Path) -> None:
    prompts = [renderer.prompt([{"role": "user", "content": "1+1"}], root=root, thinking=True)]
    adapted.save_pretrained(tmp_path, state_dict=plain_state_dict(adapted))
    merged, _ = AutoModelForImageTextToText.from_pretrained(tmp_path), None
    groups = []
    for model in (adapted, merged):
        generator = torch.Generator().manual_seed(3)
        engine = TransformersEngine(model, renderer)
        groups.append(engine.generate(prompts, 4, SamplingParams(max_new_tokens=16), generator=generator)[0])
    for one, other in zip(*groups, strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        torch.testing.assert_close(torch.from_numpy(one.logprobs), torch.from_numpy(other.logprobs), atol=1e-4, rtol=1e-4)


def test_saved_adapters_come_back_exactly_and_peft_reads_them(base: Path, adapted, tmp_path: Path) -> None:
    save_adapters(adapted, tmp_path / "adapter")
    assert adapter_base(tmp_path / "adapter") == base
    again, _ = load_policy(str(base))
    add_adapters(again, **{**SETTINGS, "seed": 9}, targets="all")
    load_adapters(again, tmp_path / "adapter")
    for (name, value), (_, expected) in zip(adapter_parameters(again), adapter_parameters(adapted), strict=True):
        assert torch.equal(value, expected), name
    # Equal adapters are equal files: safetensors writes several entries of metadata in an order of chance.
    for number in range(8):
        save_adapters(adapted, tmp_path / str(number))
    assert len({(tmp_path / str(n) / "adapter_model.safetensors").read_bytes() for n in range(8)}) == 1
    theirs = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), tmp_path / "adapter")
    ids = torch.arange(20)[None]
    torch.testing.assert_close(theirs(ids).logits, adapted.eval()(ids).logits)


def test_adapters_of_other_settings_or_of_another_base_are_refused(base: Path, adapted, tmp_path: Path) -> None:
    save_adapters(adapted, tmp_path / "adapter")
    for changes in ({"rank": 8}, {"alpha": 1.0}, {"targets": "decoder"}):
        model, _ = load_policy(str(base))
        add_adapters(model, **{**SETTINGS, "targets": "all", **changes})
        with pytest.raises(ValueError, match=r"rank 4 and alpha 10.0 on .* same lora settings"):
            load_adapters(model, tmp_path / "adapter")
    model, _ = load_policy(str(base))
    add_adapters(model, **SETTINGS, targets="all")
    with torch.no_grad():
        model.model.visual.patch_embed.proj.weight.add_(1.0)
    with pytest.raises(ValueError, match="other weights"):
        load_adapters(model, tmp_path / "adapter")


def test_adapters_do_not_enter_the_digest_of_the_base(base: Path, adapted) -> None:
    other = copy.deepcopy(adapted)
    stir(other)
    assert base_digest(other) == base_digest(adapted)


def test_adapters_of_a_bfloat16_model_are_float32_and_merge_to_bfloat16(base: Path, renderer, root) -> None:
    model, _ = load_policy(str(base), dtype="bfloat16")
    add_adapters(model, **SETTINGS, targets="decoder")
    stir(model)
    assert {value.dtype for _, value in adapter_parameters(model)} == {torch.float32}
    assert {value.dtype for _, value in plain_parameters(model)} == {torch.bfloat16}
    assert logprobs(model, renderer, root).isfinite().all()
