"""Loading configurations: what is accepted, and what the message of each fault says."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from rlcs.config import ConfigError, load_config, to_yaml
from rlcs.rl_config import RlConfig


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Optimizer(Section):
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)


class Source(Section):
    path: Path
    weight: float = 1.0


class Run(Section):
    out: Path
    """Directory to create."""
    name: str = "run"
    steps: int = Field(default=10, ge=1)
    mode: Literal["fast", "exact"] = "fast"
    shuffle: bool = True
    cap: float | None = 2.0
    optimizer: Optimizer = Field(default_factory=Optimizer)
    warmup: Annotated[Optimizer | None, Field(description="optimizer of the warm-up")] = None
    weights: dict[str, float] = {}
    sources: list[Source] = []


Load = Callable[..., Run]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str = "out: o\n", overrides: Sequence[str] = ()) -> Run:
        (tmp_path / "run.yaml").write_text(text)
        return load_config(Run, tmp_path / "run.yaml", overrides)

    return load


def faults(load: Load, text: str = "out: o\n", overrides: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, overrides)
    return str(caught.value)


def test_a_file_is_merged_with_overrides_over_the_defaults(load: Load) -> None:
    config = load("out: runs/a\nsteps: 5\noptimizer:\n  lr: 1e-3\n", ["steps=7", "optimizer.betas=[0.8, 0.9]"])
    assert config == Run(out=Path("runs/a"), steps=7, optimizer=Optimizer(lr=1e-3, betas=(0.8, 0.9)))


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("optimizer.lr=1", "optimizer.lr", 1.0),
        ("optimizer={lr: 2.5e-4}", "optimizer.lr", 2.5e-4),
        ("optimizer.betas=[0, .5]", "optimizer.betas", (0.0, 0.5)),
        ("cap=null", "cap", None),
        ("shuffle=false", "shuffle", False),
        ("name=a=b", "name", "a=b"),
        ("name='3'", "name", "3"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ("weights={math: 1, ocr: 2.5}", "weights", {"math": 1.0, "ocr": 2.5}),
        ("weights.math=3", "weights", {"math": 3.0}),
        ("warmup.lr=0.1", "warmup.lr", 0.1),
        ("sources=[{path: a.jsonl}]", "sources", [Source(path=Path("a.jsonl"))]),
        ("out=runs/${steps}-${optimizer.lr}", "out", Path("runs/5-0.5")),
    ],
)
def test_an_override_is_read_as_yaml(load: Load, override: str, path: str, value: object) -> None:
    found: object = load("out: o\nsteps: 5\noptimizer: {lr: 0.5}\n", [override])
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


def test_an_override_changes_one_item_of_a_list_and_merges_into_a_section(load: Load) -> None:
    text = "out: o\nsources: [{path: a}, {path: b}]\noptimizer: {lr: 0.5}\n"
    config = load(text, ["sources.1.weight=3", "optimizer={betas: [0, 0]}"])
    assert [source.weight for source in config.sources] == [1.0, 3.0]
    assert config.optimizer == Optimizer(lr=0.5, betas=(0, 0))


def test_interpolation_reads_other_keys_and_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLCS_TEST_OUT", "there")
    assert load("out: ${oc.env:RLCS_TEST_OUT}/${name}\nname: n\n").out == Path("there/n")


def test_the_later_of_two_overrides_of_a_key_counts(load: Load) -> None:
    assert load(overrides=["steps=2", "steps=3"]).steps == 3


def test_the_rendered_configuration_reads_back_as_the_same(tmp_path: Path, load: Load) -> None:
    config = load(overrides=["optimizer.lr=1e-5", "cap=null", "sources=[{path: a.jsonl}]"])
    text = to_yaml(config)
    assert "shuffle: true" in text and text.index("out:") < text.index("name:")
    (tmp_path / "again.yaml").write_text(text)
    assert load_config(Run, tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("out: o\nstpes: 3\n", [], "key 'stpes' (line 2): unknown; did you mean 'steps'?"),
        ("out: o\noptimizer:\n  rl: 3\n", [], "key 'optimizer.rl' (line 3): unknown; did you mean 'lr'?"),
        ("out: o\nwarmup: {rl: 3}\n", [], "unknown; did you mean 'lr'?"),
        ("out: o\nsources:\n- path: a\n- pth: b\n", [], "key 'sources.1.pth' (line 4): unknown; did you mean 'path'?"),
        ("out: o\nlr: 3\n", [], "key 'lr' (line 2): unknown; there is 'optimizer.lr'"),
        ("out: o\noptimizer: {zzz: 3}\n", [], "unknown (known: betas, lr)"),
        ("out: o\n", ["optimizer.rl=3"], "key 'optimizer.rl' (override 'optimizer.rl=3'): unknown; did you mean 'lr'?"),
        ("steps: 3\n", [], "key 'out': missing; add it (Directory to create)"),
        ("", [], "key 'out': missing"),
        ("out: o\nsteps: '3'\n", [], "key 'steps' (line 2): found \"3\"; expected a whole number"),
        ("out: o\nsteps: 2.5\n", [], "found 2.5; expected a whole number"),
        ("out: o\nsteps: 0\n", [], "found 0; expected a value greater than or equal to 1"),
        ("out: o\nname: 3\n", [], "found 3; expected text; put it in quotes"),
        ("out: o\nshuffle: 1\n", [], "found 1; expected true or false"),
        ("out: o\noptimizer: {lr: true}\n", [], "key 'optimizer.lr' (line 2): found true; expected a number"),
        ("out: o\noptimizer: 3\n", [], "found 3; expected keys with values"),
        ("out: o\nmode: exatc\n", [], "found \"exatc\"; expected 'fast' or 'exact'"),
        ("out: o\n", ["optimizer.betas=(0,1)"], 'found "(0,1)"; expected a list, [a, b]'),
        ("out: o\nweights: {math: much}\n", [], "key 'weights.math' (line 2): found \"much\"; expected a number"),
        ("out: ${nme}\n", [], "key 'out' (line 1): cannot be resolved: Interpolation key 'nme' not found"),
        ("out: o\nname: ${oc.env:RLCS_TEST_UNSET}\n", [], "RLCS_TEST_UNSET"),
        ("out: o\nname: '???'\n", [], "key 'name' (line 2): cannot be resolved: Missing mandatory value"),
        ("out: o\nname: ${name}\n", [], "key 'name' (line 2): cannot be resolved"),
        ("out: o\nname: !!binary aGk=\n", [], "key 'name' (line 2): found a bytes; expected text"),
        ("out: o\n", ["steps"], "override 'steps': expected KEY=VALUE"),
        ("out: o\n", ["=3"], "override '=3': expected KEY=VALUE"),
        ("out: o\n", ["optimizer..lr=3"], "override 'optimizer..lr=3': expected KEY=VALUE"),
        ("out: o\n", ["steps=[1"], "override 'steps=[1': the value is not valid YAML"),
        ("out: o\n", ["sources.3.path=a"], "key 'sources' (override 'sources.3.path=a'): found"),
        ("out: o\nsources: []\n", ["sources.3.path=a"], "override 'sources.3.path=a': list index out of range"),
        ("out: o\nname: [\n", [], ", line 3, column 1: not valid YAML"),
        ("out: o\nname: a: b\n", [], ", line 2, column 8: not valid YAML"),
        ("out: o\nout: p\n", [], "duplicate key out"),
        ("- a\n", [], 'found ["a"] at the top; expected `key: value` lines'),
    ],
)
def test_a_fault_names_its_key_what_was_found_and_what_was_expected(
    load: Load, tmp_path: Path, text: str, overrides: list[str], expected: str
) -> None:
    message = faults(load, text, overrides)
    assert expected in message
    assert message.startswith(str(tmp_path / "run.yaml"))


def test_all_faults_are_reported_together(load: Load) -> None:
    message = faults(load, "stpes: 3\nout: ${nme}\nshuffle: 1\n", ["oops", "optimizer.rl=1"])
    assert "5 faults" in message
    for part in ("'stpes'", "'out'", "'shuffle'", "'oops'", "'optimizer.rl'"):
        assert part in message


def test_a_check_across_fields_keeps_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "rl.yaml"
    path.write_text("model: m\nproblems: p.jsonl\nout: o\n")
    with pytest.raises(ConfigError, match=r"top_p is 0\.9.*set old_logprobs: trainer"):
        load_config(RlConfig, path, ["top_p=0.9"])
    with pytest.raises(ConfigError, match=r"key 'curriculum' .*window is \[0.8, 0.2\]"):
        load_config(RlConfig, path, ["curriculum.window=[0.8,0.2]"])


def test_a_missing_file_names_the_one_that_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "nano.yaml").write_text("out: o\n")
    with pytest.raises(ConfigError, match=r"nano\.yml: no such file; did you mean 'nano\.yaml'"):
        load_config(Run, tmp_path / "nano.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Run, tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"out: caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(Run, tmp_path / "latin.yaml")
