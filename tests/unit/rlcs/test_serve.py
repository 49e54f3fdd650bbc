"""What `rlcs serve` takes of a configuration."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlcs.cli import app
from rlcs.config import ConfigError
from rlcs.serve import serve_config

NANO = Path(__file__).parents[3] / "configs" / "rl" / "nano.yaml"


def test_a_training_configuration_is_served_with_its_model_and_engine(tmp_path):
    path = tmp_path / "rl.yaml"
    path.write_text("model: runs/sft\nproblems: p.jsonl\nout: runs/rl\nsteps: 5\ndtype: bfloat16\nvllm: {max_sequences: 8}\n")
    config = serve_config(path, ["vllm.eager=true"])
    assert (config.model, config.dtype) == ("runs/sft", "bfloat16")
    assert (config.vllm.max_sequences, config.vllm.eager) == (8, True)


def test_the_configurations_we_ship_can_be_served():
    assert serve_config(NANO, []).model


def test_a_directory_is_the_model_itself(tmp_path):
    config = serve_config(tmp_path, ["dtype=bfloat16"])
    assert (config.model, config.dtype) == (str(tmp_path), "bfloat16")


@pytest.mark.parametrize("override", ["steps=3", "vlm.eager=true", "rollout=vllm"])
def test_a_setting_that_a_server_does_not_have_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="a server has no such setting"):
        serve_config(tmp_path, [override])


def test_a_misspelt_option_of_the_engine_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'eager'"):
        serve_config(tmp_path, ["vllm.eagr=true"])


@pytest.mark.parametrize("address", ["there:8300", "ftp://there", "http://there:8300/path", "http://"])
def test_an_address_of_a_server_is_checked(tmp_path, address):
    with pytest.raises(ConfigError, match=r"vllm\.server"):
        serve_config(tmp_path, [f"vllm.server={address}"])


def test_the_command_hands_its_options_on(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("rlcs.serve.run_serve", lambda source, overrides, **rest: seen.update(rest, source=source, o=overrides))
    found = CliRunner().invoke(app, ["serve", str(tmp_path), "dtype=bfloat16", "--port", "9", "--share", str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert (seen["source"], seen["o"], seen["host"], seen["port"]) == (tmp_path, ["dtype=bfloat16"], "127.0.0.1", 9)
    assert seen["share"] == tmp_path
