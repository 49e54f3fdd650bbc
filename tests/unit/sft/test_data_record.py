"""The record of a run's data: whatever training reads of a line or its pictures changes its fingerprint, and is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sft.data_record import DataRecord, Line, difference, digest, fingerprints
from sft.rundir import RunDir


def line(id: str, root: Path, *names: str | list[str], content: Any = 1) -> Line:
    parts = [{"type": "video" if isinstance(name, list) or "." not in name else "image"} for name in names]
    parts = [{**part, part["type"]: name} for part, name in zip(parts, names, strict=True)]
    return Line(id, content, [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}], root)


def picture(path: Path, seed: int, size: int = 64) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_contents_and_order_of_lines_count() -> None:
    root = Path()
    same = [line("a", root), line("b", root, content={"x": [1, "é"]})]
    assert fingerprints(same) == fingerprints(list(same)) and len(set(fingerprints(same).values())) == 2
    changed = [line("a", root), line("b", root, content={"x": [2, "é"]})]
    assert difference(fingerprints(same), fingerprints(changed)) == "1 changed: b"
    assert digest(fingerprints(same)) != digest(fingerprints(same[::-1]))
    assert difference(fingerprints(same), fingerprints(same[::-1])) == "the lines are in another order"


def test_lines_that_come_and_go_are_counted_and_the_first_named() -> None:
    old = {f"p{n}": "0" for n in range(20)}
    new = {f"p{n}": "0" for n in range(12, 24)}
    assert difference(old, new) == "4 added: p20, p21, p22, p23, 12 removed: p0, p1, p2, p3, p4, ..."


@pytest.mark.parametrize("kind", ["image", "frame of a directory", "frame of a list"])
def test_a_picture_made_anew_is_noticed_and_one_only_copied_is_not(tmp_path: Path, kind: str) -> None:
    (tmp_path / "clip").mkdir()
    file = tmp_path / "clip" / "1.png"
    picture(file, 1)
    shown = {"image": "clip/1.png", "frame of a directory": "clip", "frame of a list": ["clip/1.png"]}[kind]
    before = fingerprints([line("a", tmp_path, shown)])
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)  # another date
    assert fingerprints([line("a", tmp_path, shown)]) == before
    picture(file, 2)
    assert fingerprints([line("a", tmp_path, shown)]) != before
    file.unlink()
    assert fingerprints([line("a", tmp_path, shown)]) != before


def test_one_pixel_of_a_large_picture_changes_its_last_bytes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1, size=256)
    assert (tmp_path / "a.png").stat().st_size > 3 * 4096
    before = fingerprints([line("a", tmp_path, "a.png")])
    image = Image.open(tmp_path / "a.png").copy()
    image.putpixel((128, 128), (0, 0, 0))
    image.save(tmp_path / "a.png")
    assert fingerprints([line("a", tmp_path, "a.png")]) != before


def test_a_resumed_run_is_told_what_differs_from_the_data_it_began_with(tmp_path: Path) -> None:
    run, checkpoint = RunDir(tmp_path), tmp_path / "checkpoints" / "step-000001"
    begun = DataRecord({"data": {"a": "0", "b": "1"}, "eval_data": {"e": "0"}})
    begun.write(run)
    saved = begun.state_dict()
    begun.refuse_changes(saved, run, checkpoint)
    DataRecord({"data": {"a": "0", "b": "1"}}).refuse_changes(saved, run, checkpoint)  # nothing is held out any more
    with pytest.raises(ValueError, match=r"data: 1 removed: b; eval_data: 1 changed: e\)\. Resume with the old data") as found:
        DataRecord({"data": {"a": "0"}, "eval_data": {"e": "1"}}).refuse_changes(saved, run, checkpoint)
    assert str(checkpoint) in str(found.value)
    (tmp_path / "data.json").write_text("{")  # an explanation is lost, the refusal stays
    with pytest.raises(ValueError, match=r"other data than the files hold now \(data: it differs\)"):
        DataRecord({"data": {"a": "0"}}).refuse_changes(saved, run, checkpoint)
