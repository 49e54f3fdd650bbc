"""What a rollout is explained with: spans, tokens, shapes, verdicts, images."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from written_run import WrittenRun

from rewards import registry
from rlcs.dashboard import geometry
from rlcs.dashboard.media import BadMedia, Media, media_of
from rlcs.dashboard.problem_file import ProblemFile
from rlcs.dashboard.runs import Run
from rlcs.dashboard.tokens import token_rows
from rlcs.dashboard.verdicts import explained, spans, verifier_of
from rlcs.problems import load_problems

PIECES = ["<think>", "</think>", "<|begin_of_box|>", "<|end_of_box|>", "<answer>", "a", " 7\n", "<script>", "é", ""]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_spans_joined_are_the_response(response: str) -> None:
    found = spans(response)
    assert "".join(span["text"] for span in found) == response
    assert sum(span["kind"] == "box" for span in found) <= 1


def test_spans_name_the_parts() -> None:
    response = "<think>so</think>It is <|begin_of_box|>7<|end_of_box|>."
    assert [(span["kind"], span["text"]) for span in spans(response)] == [
        ("mark", "<think>"), ("think", "so"), ("mark", "</think>"), ("answer", "It is "),
        ("mark", "<|begin_of_box|>"), ("box", "7"), ("mark", "<|end_of_box|>"), ("answer", "."),
    ]  # fmt: skip
    assert [span["kind"] for span in spans("<think>cut off")] == ["plain"] and spans("") == []


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte by byte, with special tokens at ids 256 and on: 'é' is two tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({char: place for place, char in enumerate(alphabet)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<think>", "</think>", "<|begin_of_box|>", "<|end_of_box|>", "<|user|>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return path


def columns_of(tokenizer: Path, text: str) -> dict[str, Any]:
    ids = Tokenizer.from_file(str(tokenizer)).encode(text, add_special_tokens=False).ids
    return {"token_ids": ids, "token_logprobs": [-0.5] * len(ids), "token_forced": [False] * len(ids)}


def test_tokens_are_text_with_the_kind_of_their_span(tokenizer: Path) -> None:
    response = "<think>é7</think>\n<|begin_of_box|>42<|end_of_box|>"
    columns = columns_of(tokenizer, response + "<|user|>")
    columns["token_logprobs"][1], columns["token_forced"][2] = float("nan"), True
    rows, note = token_rows(columns, spans(response), tokenizer)
    assert note is None and rows is not None
    assert "".join(row["text"] for row in rows) == response + "<|user|>"
    assert [(row["text"], row["kind"]) for row in rows[:5]] == [
        ("<think>", "mark"), ("", "think"), ("é", "think"), ("7", "think"), ("</think>", "mark")
    ]  # fmt: skip
    assert [row["kind"] for row in rows[-4:]] == ["box", "box", "mark", None]
    assert rows[1]["logprob"] is None and rows[0]["logprob"] == -0.5 and rows[2]["forced"]


def test_what_the_prompt_began_the_response_with_comes_first(tokenizer: Path) -> None:
    response = "<think></think>\n<|begin_of_box|>42<|end_of_box|>"
    rows, _ = token_rows(columns_of(tokenizer, "<|begin_of_box|>42<|end_of_box|><|user|>"), spans(response), tokenizer)
    assert rows is not None and rows[0] == {"text": "<think></think>\n", "logprob": None, "forced": True, "kind": "mark"}
    assert [row["kind"] for row in rows[1:]] == ["mark", "box", "box", "mark", None]


def test_tokens_that_cannot_be_shown_are_explained(tokenizer: Path, tmp_path: Path) -> None:
    columns = columns_of(tokenizer, "ab")
    (tmp_path / "tokenizer.json").write_text("{}")
    for given_columns, path, word in (
        ({}, tokenizer, "keeps no tokens"),
        (columns, None, "no tokenizer.json"),
        (columns, tmp_path / "tokenizer.json", "cannot be used"),
        (columns | {"token_ids": [0] * 50_000}, tokenizer, "at most"),
    ):
        rows, note = token_rows(given_columns, spans("ab"), path)
        assert rows is None and note is not None and word in note
    rows, _ = token_rows(columns | {"token_ids": [999_999, *columns["token_ids"]]}, spans("ab"), tokenizer)
    assert rows is not None and "ab" in "".join(row["text"] for row in rows)


def shapes(verifier: str, reference: Any, answer: str, **args: Any) -> dict[str, list[dict[str, Any]]]:
    entry = registry.find(verifier, verifier)
    found = geometry.shapes(entry, registry.build_args(entry, args), reference, answer, 500, 200)
    assert found is not None
    return found


def test_boxes_are_in_pixels_with_their_overlap() -> None:
    found = shapes("grounding", [[0, 0, 500, 500]], "[[250, 0, 750, 500], [900, 900, 100, 100]]")
    assert found["reference"][0]["points"] == [[0, 0], [250, 100]]
    assert found["predicted"][0]["points"] == [[125, 0], [375, 100]]
    assert found["predicted"][0]["iou"] == pytest.approx(1 / 3) and found["predicted"][0]["hit"] is False
    assert found["predicted"][1]["iou"] is None


def test_points_hit_polygons_boxes_or_come_near() -> None:
    reference = json.dumps([{"polygon": [[0, 0], [100, 0], [0, 100]]}])
    found = shapes("point", reference, "[[20, 20], [90, 90]]")
    assert found["reference"][0]["kind"] == "polygon" and found["reference"][0]["points"][1] == [50, 0]
    assert [one["hit"] for one in found["predicted"]] == [True, False]
    assert shapes("point", "[100, 100]", "[[110, 100]]")["predicted"][0]["hit"] is True


def test_shapes_of_an_extent_of_its_own_and_of_no_answer() -> None:
    assert shapes("grounding", [[0, 0, 1, 1]], "", extent=1.0)["reference"][0]["points"] == [[0, 0], [500, 200]]
    assert shapes("gui", '{"action_type": "click", "box_2d": [[1, 2, 3, 4]]}', "nonsense(")["predicted"] == []
    entry = registry.find("math", "math")
    assert geometry.shapes(entry, registry.build_args(entry, None), "1", "1", 10, 10) is None
    entry = registry.find("grounding", "grounding")
    assert geometry.shapes(entry, registry.build_args(entry, None), "no boxes", "1", 10, 10) is None


def test_a_verdict_is_explained_by_the_verifiers_own_rule() -> None:
    problem = {"id": "1", "verifier_args": {"threshold": 0.8}}
    known = verifier_of("ocr", problem)
    assert known is not None and known[0]["changed"] == {"threshold": 0.8} and known[0]["default"]
    row = {"domain": "ocr", "response": "<think></think><|begin_of_box|>HELLO<|end_of_box|>", "reward": 0.8, "correct": True,
           "status": "ok", "reason": None, "extracted": "HELLO", "question": "?", "finish_reason": "stop"}  # fmt: skip
    steps = {step["name"]: step["text"] for step in explained(row, "hallo", problem, [], known)["steps"]}
    assert steps["reference is"] == "hallo" and steps["answer is"] == "hello" and "1 edits / 5" in steps["rule"]
    told = explained(row | {"reward": 0.1}, "hallo", problem, [], known)["steps"]
    assert any("has changed since" in step["text"] for step in told)
    broken = explained(row | {"response": "<think>x", "reason": "unclosed-think"}, "hallo", problem, [], known)
    assert broken["steps"][0]["text"] == "no answer: unclosed-think" and broken["reason_text"]
    assert verifier_of("nowhere", None) is None
    assert "not known here" in explained(row | {"domain": "nowhere"}, "a", None, [], None)["steps"][1]["text"]


def test_images_outside_the_problem_files_folder_are_refused(tmp_path: Path) -> None:
    root, other = tmp_path / "data", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    picture = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    picture.save(root / "in.png")
    picture.save(other / "out.png")
    (root / "link.png").symlink_to(other / "out.png")
    (root / "text.png").write_text("root:x:0:0")

    def medium(path: Any, *allowed: Path) -> Media | str:
        (found,) = media_of({"messages": [{"role": "user", "content": [{"type": "image", "image": path}]}]}, root, allowed)
        return found

    for path in ("../other/out.png", "link.png", str(other / "out.png"), "/etc/passwd"):
        found = medium(path)
        assert isinstance(found, str) and "--media" in found, path
    for path in ("../other/out.png", "link.png"):
        assert isinstance(medium(path, other), Media)
    for path in (None, 7, "a\x00b", [], ["a", 3], ""):
        assert isinstance(medium(path), str)
    inside = medium("in.png")
    assert isinstance(inside, Media) and inside.described(0)["width"] == 6
    text = medium("text.png")
    assert isinstance(text, Media) and text.described(0)["error"]
    with pytest.raises(BadMedia):
        text.frame(0)


def test_animations_and_folders_of_frames_are_videos(root: Path) -> None:
    problem = {"messages": [{"role": "user", "content": [{"type": "video", "video": name} for name in ("clip", "clip.gif")]}]}
    folder, animation = media_of(problem, root)
    assert isinstance(folder, Media) and folder.described(0)["frames"] == 5
    assert isinstance(animation, Media) and animation.described(1)["frames"] == 4
    assert animation.described(1)["seconds"] == [0.0, 0.5, 1.0, 1.5] and animation.frame(3).startswith(b"\x89PNG")
    with pytest.raises(BadMedia):
        animation.frame(4)


def test_problems_are_found_by_their_place_past_blank_lines(tmp_path: Path) -> None:
    line = {"domain": "math", "messages": [{"role": "user", "content": "?"}], "answer": "1"}
    lines = [json.dumps({"id": f"p{i}", **line, **({"pass_rate": i / 10} if i % 2 else {})}) for i in range(6)]
    path = tmp_path / "problems.jsonl"
    for ending in ("\n", "\r\n"):
        path.write_text(ending + lines[0] + ending + "  \t" + ending + ending.join(lines[1:]))
        file = ProblemFile()
        file.expect(path)
        assert file.stale
        file.read()
        assert len(file) == 6 and not file.stale
        for index, problem in enumerate(load_problems(path)):
            found = file.line(index)
            assert found is not None and found["id"] == problem.id
            rate = file.pass_rates[index] if file.pass_rates is not None else None
            assert (None if np.isnan(rate) else round(float(rate), 3)) == problem.pass_rate
        assert file.line(6) is None and file.line(-1) is None


def test_a_run_is_running_while_another_process_holds_its_lock(growing: WrittenRun) -> None:
    hold = f"""
import sys
from sft.rundir import RunDir
run = RunDir({str(growing.path)!r}, resume=True)
run.claim()
print("held", flush=True)
sys.stdin.read()
"""
    run = Run("rl", growing.path)
    run.refresh()
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert run.status() == "running"
        holder.communicate("")
    assert run.status() == "finished"  # as many steps as the configuration has
    growing.path.joinpath("config.yaml").write_text("steps: 9\nmax_rollouts: 48\n")
    run.refresh()
    assert run.status() == "finished"
    growing.path.joinpath("config.yaml").write_text("steps: 9\n")
    run.refresh()
    assert run.status() == "stopped"


def test_links_in_a_run_directory_are_not_followed(growing: WrittenRun, tmp_path: Path) -> None:
    secret = tmp_path / "secret.parquet"
    (growing.path / "rollouts" / "step=000001.parquet").rename(secret)
    (growing.path / "rollouts" / "step=000001.parquet").symlink_to(secret)
    run = Run("rl", growing.path)
    run.refresh()
    assert list(run.files["rollouts"]) == [0]


def test_the_server_does_without_torch() -> None:
    script = (
        "import sys, rlcs.dashboard.serve, rlcs.dashboard.export; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"
