"""The procedural families: the same by seed, split by content, right in every answer, and drawn as they say."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import rewards
from rlcs.check import check_file
from rlcs.problems import load_problems
from rlcs.tasks import FAMILIES, Sample, write_tasks
from rlcs.tasks.base import Working
from rlcs.tasks.glyphs import CELL
from rlcs.tasks.gui import HEIGHT, PAPER, WIDTH, Widget, lay_out, render_screen
from rlcs.tasks.math import draw_expression
from rlcs.tasks.ocr import LEVELS, OcrFamily
from rlcs.tasks.write import draw_distinct, is_held_out

FILES = ("train", "heldout", "sft", "sft_heldout")
EVERY_LEVEL = [(domain, level) for domain, family in FAMILIES.items() for level in range(1, family.levels + 1)]


def write(out: Path, *, seed: int = 0, **changes: Any) -> Path:
    counts = {"train": 15, "heldout": 10, "sft": 10, "sft_heldout": 5}
    write_tasks(out, seed=seed, console=Console(quiet=True), **{**counts, **changes})
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tasks") / "data", train=60, heldout=50)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def samples(domain: str, level: int, count: int = 40) -> list[Sample]:
    rng = np.random.default_rng([7, level])
    return [FAMILIES[domain].generate(rng, level) for _ in range(count)]


# Files


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", seed=1)
    assert contents(first) == contents(again)
    assert (first / "train.jsonl").read_bytes() != (other / "train.jsonl").read_bytes()


def test_a_file_does_not_change_with_the_sizes_of_the_others(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    second = write(tmp_path / "b", train=20, sft=0, sft_heldout=6)
    assert (first / "heldout.jsonl").read_bytes() == (second / "heldout.jsonl").read_bytes()
    shared = [name for name in contents(first) if name.startswith("images/heldout-")]
    assert shared and all((first / name).read_bytes() == (second / name).read_bytes() for name in shared)


def test_problems_do_not_change_with_the_domains_and_levels_written(tmp_path: Path) -> None:
    everything = rows(write(tmp_path / "a") / "train.jsonl")
    some = rows(write(tmp_path / "b", domains=["ocr"], levels=[2], train=3) / "train.jsonl")
    assert some == [row for row in everything if row["domain"] == "ocr" and row["tier"] == "level-2"]


@pytest.mark.parametrize("name", FILES)
def test_every_written_line_passes_the_check(written: Path, name: str) -> None:
    report = check_file(written / f"{name}.jsonl", workers=1)
    assert report.errors == [] and report.warnings == []
    assert (report.examples if name.startswith("sft") else report.problems) == len(rows(written / f"{name}.jsonl"))


def test_lines_are_spread_evenly_over_domains_and_levels(written: Path) -> None:
    problems = load_problems(written / "train.jsonl")
    assert Counter((problem.domain, problem.tier) for problem in problems) == {
        (domain, f"level-{level}"): 12 for domain, level in EVERY_LEVEL
    }


def test_ids_and_images_of_all_files_are_different(written: Path) -> None:
    lines = [row for name in FILES for row in rows(written / f"{name}.jsonl")]
    assert len({row["id"] for row in lines}) == len(lines)
    images = [
        part["image"] for row in lines for part in row["messages"][0]["content"] if isinstance(part, dict) and "image" in part
    ]
    assert sorted(images) == sorted(f"images/{path.name}" for path in (written / "images").iterdir())


def test_training_and_held_out_files_share_no_content(written: Path) -> None:
    """Of ocr the string, of math the expression, of gui the screen: read from the files, not from the split's own hash."""

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        *_, last = row["messages"]
        content = row["messages"][0]["content"]
        question = content if isinstance(content, str) else content[-1]["text"]
        image = b"" if isinstance(content, str) else (written / content[0]["image"]).read_bytes()
        answer = row.get("answer") or re.sub(r".*<\|begin_of_box\|>(.*)<\|end_of_box\|>", r"\1", last["content"], flags=re.S)
        return (row["domain"], str(answer)) if row["domain"] == "ocr" else (row["domain"], question, image)

    for name in ("heldout", "sft_heldout"):
        for other in ("train", "sft"):
            assert not {key(row) for row in rows(written / f"{name}.jsonl")} & {
                key(row) for row in rows(written / f"{other}.jsonl")
            }


@pytest.mark.parametrize("domain", FAMILIES)
def test_the_split_depends_on_the_content_alone(domain: str) -> None:
    """The same content, drawn in another rendering, falls on the same side, and about a quarter of it is held out."""
    drawn = [sample for level in range(1, FAMILIES[domain].levels + 1) for sample in samples(domain, level, 120)]
    sides: dict[str, set[bool]] = {}
    for sample in drawn:
        sides.setdefault(sample.content, set()).add(is_held_out(sample))
    assert all(len(found) == 1 for found in sides.values())
    assert 0.15 < np.mean([found == {True} for found in sides.values()]) < 0.35


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"levels": [1], "train": 500}, ValueError, r"math level 1 has no more than 2\d\d distinct training problems"),
        ({"levels": [1], "heldout": 500}, ValueError, r"distinct held-out problems, \d+ more were asked for; ask for fewer"),
        ({"train": -1}, ValueError, "train is -1; expected 0 or more"),
        ({"domains": ["maths"]}, ValueError, "unknown domain 'maths'; there are math, ocr, gui"),
        ({"levels": [9]}, ValueError, "levels 1 to 5, found 9"),
    ],
)
def test_a_request_that_fails_leaves_nothing_behind(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        write(tmp_path / "data", **{"domains": ["math"], **changes})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(FileExistsError, match="delete it or name another"):
        write(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_no_two_samples_drawn_are_the_same() -> None:
    found = draw_distinct(FAMILIES["math"], 1, 60, held_out=False, rng=np.random.default_rng(0))
    pixels = [sample.image.tobytes() if sample.image else b"" for sample in found]
    assert len({(sample.question, sample.boxed, image) for sample, image in zip(found, pixels, strict=True)}) == 60


def test_a_level_gives_all_the_problems_it_has_and_the_next_one_the_rest(tmp_path: Path) -> None:
    """One-digit sums and differences: 100 + 55, in text or as an image. Both sides of the split together hold them all."""
    sides = [draw_distinct(FAMILIES["math"], 1, 999, held_out=side, rng=np.random.default_rng(0)) for side in (True, False)]
    assert len(sides[0]) + len(sides[1]) == 2 * (100 + 55)
    counts = {"train": 620, "heldout": 0, "sft": 0, "sft_heldout": 0}
    tiers = Counter(
        row["tier"] for row in rows(write(tmp_path / "d", domains=["math"], levels=[2, 1], **counts) / "train.jsonl")
    )
    assert tiers == {"level-1": len(sides[1]), "level-2": 620 - len(sides[1])}


def test_a_domain_or_level_named_twice_is_written_once(tmp_path: Path) -> None:
    out = write(tmp_path / "d", domains=["ocr", "ocr"], levels=[1, 1], train=4)
    assert len(rows(out / "train.jsonl")) == 4


# Answers


def test_every_family_has_at_least_five_levels() -> None:
    assert all(family.levels >= 5 and family.domain == domain for domain, family in FAMILIES.items())


@pytest.mark.parametrize("working", Working)
@pytest.mark.parametrize(("domain", "level"), EVERY_LEVEL)
def test_every_reference_response_is_right(domain: str, level: int, working: Working) -> None:
    for sample in samples(domain, level):
        response = sample.response(working)
        verdict = rewards.score(response, sample.answer, domain=domain, question=sample.question, args=sample.verifier_args)
        assert (verdict.score, verdict.correct) == (1.0, True), (response, verdict)


@pytest.mark.parametrize(("domain", "level"), EVERY_LEVEL)
def test_a_different_answer_is_wrong(domain: str, level: int) -> None:
    """Two screens may have the same answer in gui, which is therefore compared with a click in the corner."""
    for sample, other in pairwise(samples(domain, level)):
        if domain == "gui":
            changed = {**sample.answer, "box_2d": [[0, 0, 20, 20]]}
            assert not rewards.score(boxed(json.dumps(changed)), sample.answer, domain=domain).correct
        elif sample.boxed != other.boxed:
            assert not rewards.score(other.response(), sample.answer, domain=domain).correct


def boxed(answer: str) -> str:
    return f"<think></think>\n<|begin_of_box|>{answer}<|end_of_box|>"


def value(expression: str) -> Fraction:
    """Left to right, products first: our own reading of the expressions, apart from the generator's."""
    total = Fraction(0)
    for sign, product in re.findall(r"([+-]?)([\d*]+)", expression):
        term = Fraction(1)
        for factor in product.split("*"):
            term *= int(factor)
        total += -term if sign == "-" else term
    return total


@pytest.mark.parametrize("level", range(1, 6))
def test_sums_and_each_line_of_their_working_are_right(level: int) -> None:
    rng = np.random.default_rng(level)
    for _ in range(300):
        expression, working, result = draw_expression(rng, level)
        assert value(expression) == result >= 0
        for step in working.split("; "):
            left, columns, end = re.fullmatch(r"([\d+*-]+): (.*) =(\d+)", step).groups()  # type: ignore[union-attr]
            assert value(left) == int(end)
            assert all(value(column.split("=")[0]) == int(column.split("=")[1]) for column in columns.split())
        assert working.endswith(f"={result}")


def test_a_sum_stands_in_the_question_or_in_the_image(written: Path) -> None:
    for row in rows(written / "train.jsonl"):
        if row["domain"] != "math":
            continue
        content = row["messages"][0]["content"]
        if isinstance(content, str):
            assert value(content.removeprefix("Compute ")) == int(row["answer"])
        else:
            assert content[-1]["text"] == "Compute"


# Images


@pytest.mark.parametrize("level", range(1, 6))
def test_strings_have_the_lengths_of_their_level(level: int) -> None:
    lengths = {len(sample.boxed) for sample in samples("ocr", level, 200)}
    low, high = LEVELS[level - 1].lengths
    assert lengths == set(range(low, high + 1))


def test_levels_of_ocr_grow_in_length_noise_and_jitter() -> None:
    for easy, hard in pairwise(LEVELS):
        assert easy.lengths[0] <= hard.lengths[0] and easy.lengths[1] < hard.lengths[1]
        assert easy.noise < hard.noise and easy.jitter <= hard.jitter and easy.tilt <= hard.tilt


@pytest.mark.parametrize("domain", FAMILIES)
def test_images_are_whole_cells_of_the_vision_tower(domain: str) -> None:
    for level in range(1, FAMILIES[domain].levels + 1):
        for sample in samples(domain, level, 20):
            if sample.image is not None:
                assert sample.image.mode == "RGB"
                assert sample.image.width % CELL == sample.image.height % CELL == 0


def test_a_string_is_drawn_with_ink_in_every_place() -> None:
    for sample in (OcrFamily().generate(np.random.default_rng(seed), 1) for seed in range(20)):
        assert sample.image is not None
        dark = np.asarray(sample.image.convert("L")) < 120
        for place in range(len(sample.boxed)):
            assert dark[:, place * CELL : (place + 1) * CELL].sum() > 20


def screens() -> Iterator[tuple[int, list[Widget]]]:
    """Layouts such as those of each level, with their level."""
    rng = np.random.default_rng(3)
    for level in range(1, 6):
        for _ in range(40):
            count = {1: 1, 2: 2, 3: 4, 4: 4, 5: 5}[level]
            labels = [chr(65 + n) * (1 if level <= 3 else 2) for n in range(count)]
            yield level, lay_out(rng, labels, fields=level != 2, off_grid=level >= 4)


def pixels_of(box: list[int]) -> tuple[int, int, int, int]:
    """A box in thousandths as pixel bounds, upper ends left out."""
    left, top, right, bottom = box
    return round(left * WIDTH / 1000), round(top * HEIGHT / 1000), round(right * WIDTH / 1000), round(bottom * HEIGHT / 1000)


def test_widgets_lie_on_the_screen_and_do_not_overlap() -> None:
    for _, widgets in screens():
        taken = np.zeros((HEIGHT, WIDTH), int)
        for widget in widgets:
            left, top, right, bottom = pixels_of(widget.box)
            assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT
            assert (right - left, bottom - top) == (CELL * len(widget.label), CELL)
            taken[top:bottom, left:right] += 1
        assert taken.max() == 1


def test_the_boxes_enclose_exactly_what_is_drawn() -> None:
    """From the pixels: everything outside of the boxes is paper, and the edges of every box are not."""
    rng = np.random.default_rng(0)
    for _, widgets in screens():
        drawn = (np.asarray(render_screen(widgets, rng)) != np.array(PAPER)).any(axis=2)
        outside = drawn.copy()
        for widget in widgets:
            left, top, right, bottom = pixels_of(widget.box)
            middle = slice(top + CELL // 3, bottom - CELL // 3), slice(left + CELL // 3, right - CELL // 3)
            assert drawn[middle[0], left].all() and drawn[middle[0], right - 1].all()
            assert drawn[top, middle[1]].all() and drawn[bottom - 1, middle[1]].all()
            outside[top:bottom, left:right] = False
        assert not outside.any()


@pytest.mark.parametrize("level", range(1, 6))
def test_the_answer_of_a_screen_is_the_box_of_one_widget_in_the_image(level: int) -> None:
    for sample in samples("gui", level):
        assert sample.image is not None
        left, top, right, bottom = pixels_of(sample.answer["box_2d"][0])
        drawn = (np.asarray(sample.image) != np.array(PAPER)).any(axis=2)
        inner = drawn[top + CELL // 3 : bottom - CELL // 3]
        assert inner[:, left].all() and inner[:, right - 1].all()
        # A text field is typed into, a button clicked: a field's middle is mostly white, a button's is not.
        white = (np.asarray(sample.image)[top + 2 : bottom - 2, left + 2 : right - 2] == 255).all(axis=2).mean()
        assert (white > 0.5) == (sample.answer["action_type"] == "input_text")
        assert sample.question.startswith("Type" if "text" in sample.answer else "Click")


def test_every_glyph_of_the_fonts_is_drawn_differently() -> None:
    from rlcs.tasks.glyphs import FONTS, READABLE, draw_glyph

    for font in FONTS:
        images = []
        for char in READABLE:
            image = Image.new("L", (CELL, CELL), 255).convert("RGB")
            draw_glyph(image, char, (CELL / 2, CELL / 2), font=font, size=22, colour=(0, 0, 0))
            images.append(image.tobytes())
        assert len(set(images)) == len(READABLE)


@pytest.mark.parametrize(("domain", "level"), [(domain, level) for domain in FAMILIES for level in (0, 6)])
def test_a_level_that_does_not_exist_is_refused(domain: str, level: int) -> None:
    with pytest.raises(ValueError, match=f"{domain} has levels 1 to 5, found {level}"):
        FAMILIES[domain].generate(np.random.default_rng(0), level)


def test_the_sft_files_hold_fewer_examples_of_every_harder_level_and_the_others_as_many(tmp_path: Path) -> None:
    out = write(tmp_path / "d", domains=["ocr"], train=10, sft=31, sft_level_ratio=0.5)
    counts = [Counter(row["tier"] for row in rows(out / name)) for name in ("sft.jsonl", "train.jsonl")]
    assert [counts[0][f"level-{level}"] for level in range(1, 6)] == [16, 8, 4, 2, 1]
    assert set(counts[1].values()) == {2}


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5])
def test_a_level_ratio_that_is_no_share_is_refused(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(ValueError, match="sft_level_ratio"):
        write(tmp_path / "d", sft_level_ratio=ratio)


def test_sft_examples_work_in_the_thought_in_the_answer_or_not_at_all(tmp_path: Path) -> None:
    """By the shares asked for, where an answer shows its working; box, question and the other files do not change."""
    plain, mixed = (
        write(tmp_path / name, sft=150, sft_quick_share=quick, sft_answer_share=answer)
        for name, quick, answer in (("a", 0.0, 0.0), ("b", 0.4, 0.3))
    )
    assert rows(plain / "train.jsonl") == rows(mixed / "train.jsonl")
    kinds: Counter[tuple[bool, Working]] = Counter()
    for one, other in zip(rows(plain / "sft.jsonl"), rows(mixed / "sft.jsonl"), strict=True):
        assert one["messages"][:-1] == other["messages"][:-1]
        (thought, answer), (thought_b, answer_b) = (row["messages"][-1]["content"].split("</think>") for row in (one, other))
        working, box = thought.removeprefix("<think>"), answer.removeprefix("\n")
        if thought_b == thought:
            kind = Working.THOUGHT
        else:
            kind = Working.NONE if thought_b != "<think>" else Working.ANSWER
        if kind is Working.ANSWER:
            shown = answer_b.removeprefix("\n").removesuffix(box).removesuffix(". So ")
            assert answer_b.endswith(f". So {box}") and re.findall(r"\w+", shown) == re.findall(r"\w+", working)
        else:
            assert answer_b == answer
        kinds[one["domain"] == "math", kind] += 1
    for in_math, working, count in (
        (True, Working.NONE, 60),
        (True, Working.ANSWER, 45),
        (True, Working.THOUGHT, 45),
        (False, Working.NONE, 120),
        (False, Working.ANSWER, 0),  # a transcription or an action is answered without ado
        (False, Working.THOUGHT, 180),
    ):
        assert 0.7 * count <= kinds[in_math, working] <= 1.3 * count


@pytest.mark.parametrize(("quick", "answer"), [(-0.1, 0.0), (0.0, 1.1), (0.7, 0.4)])
def test_shares_that_do_not_fit_in_one_are_refused(tmp_path: Path, quick: float, answer: float) -> None:
    with pytest.raises(ValueError, match="share"):
        write(tmp_path / "d", sft_quick_share=quick, sft_answer_share=answer)
