"""What a policy wrote is text on the dashboard's pages and nothing else, in a real browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dashboard_browser import Reader, export, finished_run, served
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.integration

PAYLOADS = (
    "<script>window.owned=1</script>",
    "<img src=x onerror=window.owned=1>",
    "</script></title></textarea><script>window.owned=1</script>",
    '<a href="javascript:window.owned=1">click</a>',
    "\"'><svg onload=window.owned=1>",
    "<!--<script>window.owned=1</script>--><iframe srcdoc='<script>parent.owned=1</script>'>",
)
# The box of the reference on a picture of 56 x 28 pixels, and another one; coordinates are thousandths of the picture.
REFERENCE, PREDICTED = [500, 250, 750, 750], [250, 250, 750, 750]


@pytest.fixture(scope="module")
def hostile_run(coin_policy: Path, coin_problems: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last rollouts were written by an attacker, but for the first, which answers a problem with a screen."""
    root = tmp_path_factory.mktemp("hostile")
    screen = {
        "id": "screen",
        "domain": "gui",
        "messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "click it"}]}],
        "answer": {"action_type": "click", "box_2d": [REFERENCE]},
    }
    lines = coin_problems.read_text() + json.dumps(screen) + "\n"
    (root / "train.jsonl").write_text(lines)
    shutil.copy(coin_problems.parent / "a.png", root / "a.png")
    run = finished_run(coin_policy, root / "train.jsonl", root / "run").out
    last = max((run / "rollouts").glob("step=*.parquet"))
    table = pq.read_table(last)
    rows = table.to_pylist()
    for place, row in enumerate(rows):
        payload = PAYLOADS[place % len(PAYLOADS)]
        row |= {name: f"{name} {payload}" for name in ("question", "response", "reason", "extracted", "id", "tier", "fate")}
    action = json.dumps({"action_type": "click", "box_2d": [PREDICTED]})
    response = f"<think>a</think>\n<|begin_of_box|>{action}<|end_of_box|>"
    rows[0] |= {"index": lines.count("\n") - 1, "id": "screen", "domain": "gui", "response": response, "question": "click it"}
    rows[0] |= {"answer": json.dumps(screen["answer"]), "reason": "start-differs", "extracted": action, "tier": None}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), last)
    return run


@pytest.fixture(scope="module")
def address(hostile_run: Path) -> Iterator[str]:
    with served(hostile_run) as at:
        yield at


def is_inert(page: Page) -> None:
    """Nothing ran, and none of the payloads' elements exists."""
    assert page.evaluate("window.owned === undefined")
    assert page.locator("main :is(script, img, iframe, textarea, title:not(svg *)), [onerror], [onload]").count() == 0
    assert page.locator('a[href^="javascript" i]').count() == 0


def test_payloads_in_rollouts_are_shown_letter_by_letter(reader: Reader) -> None:
    page = reader.go("#/rollouts?domain=math")
    is_inert(page)
    for row in range(1, 1 + len(PAYLOADS)):
        page = reader.turn(f"#/rollouts/3/{row}?group=1")
        assert page.locator(".response").text_content() == f"response {PAYLOADS[row % len(PAYLOADS)]}"
        assert PAYLOADS[row % len(PAYLOADS)] in reader.text(".detail h1")
        is_inert(page)


def test_payloads_can_be_filtered_by_and_stay_inert_in_the_address(reader: Reader) -> None:
    page = reader.go("#/rollouts?search=%3Cscript%3Ewindow.owned%3D1%3C%2Fscript%3E")
    assert page.locator('input[name="search"]').input_value() == PAYLOADS[0]
    assert page.locator(".list tbody tr").count() > 0
    is_inert(page)
    reason = f"reason {PAYLOADS[2]}"  # has the searched text in it
    page.locator('select[name="reason"]').select_option(reason)
    page.locator(".list tbody tr", has_text=PAYLOADS[2]).first.wait_for()
    is_inert(page)


def test_boxes_are_drawn_where_the_answers_put_them(reader: Reader) -> None:
    page = reader.go("#/rollouts/3/0")
    for kind, (x0, y0, x1, y1) in (("reference", REFERENCE), ("predicted", PREDICTED)):
        box = page.locator(f"svg .shape.{kind} rect").last
        found = [float(box.get_attribute(name) or "nan") for name in ("x", "y", "width", "height")]
        wanted = [x0 * 56 / 1000, y0 * 28 / 1000, (x1 - x0) * 56 / 1000, (y1 - y0) * 28 / 1000]
        assert found == pytest.approx(wanted, abs=0.51)  # whole pixels
    assert page.locator(".media image").evaluate("async (image) => { await image.decode?.(); return image.href.baseVal; }")


def test_an_exported_file_opens_without_a_server_and_keeps_payloads_inert(
    chrome: Browser, hostile_run: Path, tmp_path: Path
) -> None:
    file = export(hostile_run, tmp_path / "run.html")
    opened = Reader(chrome, file.as_uri())
    page = opened.go("#/overview")
    assert page.locator(".plot svg.main-svg").count() > 0
    page.locator("#pages a", has_text="Rollouts").click()
    opened.wait("rollouts 3/")
    assert "sample of" in opened.text(".list .remark")
    is_inert(page)
    for place in ("#/difficulty", "#/problems", "#/compare"):
        is_inert(opened.turn(place))
    opened.close()
