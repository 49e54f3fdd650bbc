"""The dashboard's pages over a real run of the trainer, in a real browser."""

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest
from dashboard_browser import QUIET, Reader, finished_run, served
from playwright.sync_api import Browser

from rlcs.rl import run_rl
from rlcs.rl_config import RlConfig

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(coin_policy: Path, coin_problems: Path, tmp_path_factory: pytest.TempPathFactory) -> RlConfig:
    """A finished run of four steps; the test of live updates goes on with it."""
    return finished_run(coin_policy, coin_problems, tmp_path_factory.mktemp("dashboard") / "coins")


@pytest.fixture(scope="module")
def address(run: RlConfig) -> Iterator[str]:
    with served(run.out) as at:
        yield at


def test_the_overview_says_in_words_and_per_domain_how_the_run_goes(reader: Reader, run: RlConfig) -> None:
    page = reader.go("#/overview")
    assert reader.text(".verdict p")
    assert "4 of 4" in reader.text(".facts")
    titles = page.locator(".card h2").all_inner_texts()
    assert {"math", "ocr", "Alerts", "Which groups carry signal", "Spent and wasted"} <= set(titles)
    for card in page.locator(".plot").all():
        assert card.locator("svg.main-svg").count() > 0
    assert reader.text("#live").startswith("step 4 of 4")


def test_a_chart_can_be_read_as_a_table_whose_rows_lead_to_the_rollouts(reader: Reader) -> None:
    page = reader.go("#/overview")
    card = page.locator(".card", has=page.locator("h2", has_text="math"))
    card.get_by_role("button", name="table").click()
    rows = card.locator("tbody tr")
    assert rows.count() == 4
    rows.first.locator("a").click()
    assert "step_from=3" in page.url
    assert "domain=math" in page.url


PLACES = ("#/overview", "#/difficulty", "#/problems", "#/problems/3", "#/rollouts", "#/rollouts/3/0", "#/compare")


@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_loads_and_none_is_wider_than_the_screen(chrome: Browser, address: str, width: int) -> None:
    opened = Reader(chrome, address, width=width, scheme="dark")
    opened.go("#/overview")
    for place in PLACES:
        page = opened.turn(place)
        assert page.locator(".error").count() == 0, place
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
    opened.close()


def test_colours_follow_the_system_until_the_reader_chooses(chrome: Browser, address: str) -> None:
    opened = Reader(chrome, address, scheme="dark")
    page = opened.go("#/overview")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    dark = ground()
    page.locator("#theme").click()  # light
    assert ground() != dark
    page.locator("#theme").click()  # dark
    assert ground() == dark
    page.locator("#theme").click()  # the system's
    page.emulate_media(color_scheme="light")
    assert ground() != dark
    opened.close()


def test_the_keyboard_reaches_the_pages_and_explains_itself(reader: Reader) -> None:
    page = reader.go("#/overview")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#keys").is_hidden()
    page.keyboard.press("5")
    reader.wait("compare")
    page.keyboard.press("1")
    reader.wait("overview")
    page.keyboard.press("4")
    reader.wait("rollouts 3/")
    first = page.url
    page.keyboard.press("j")
    page.wait_for_url(lambda url: url != first)
    page.keyboard.press("k")
    page.wait_for_url(first)
    page.keyboard.press("/")
    assert page.locator('input[name="search"]').evaluate("node => node === document.activeElement")


def test_rows_are_walked_with_arrows_and_opened_with_enter(reader: Reader) -> None:
    page = reader.go("#/problems?sort=id")
    page.locator("tbody tr").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    key = page.locator("tbody tr").nth(2).get_attribute("data-key")
    page.keyboard.press("Enter")
    reader.wait(f"problems {key}")
    page.keyboard.press("Escape")
    reader.wait("problems")
    assert page.locator("tbody tr").count() > 2


def test_filters_of_the_rollouts_keep_what_the_files_hold(reader: Reader, run: RlConfig) -> None:
    rows = [row for path in (run.out / "rollouts").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    wanted = sum(row["domain"] == "math" and row["correct"] is False and row["step"] >= 1 for row in rows)
    page = reader.go("#/rollouts")
    assert reader.text(".list .remark").startswith(f"{len(rows)} rollouts of {len(rows)}")
    page.locator('select[name="domain"]').select_option("math")
    page.locator('select[name="correct"]').select_option("false")
    page.locator('input[name="step from"]').fill("1")
    page.keyboard.press("Tab")
    page.locator(".list .remark", has_text=f"{wanted} rollouts of").wait_for()
    assert {"domain=math", "correct=false", "step_from=1"} <= set(page.url.split("?")[1].split("&"))
    with page.expect_download() as saved:
        page.locator("#jsonl").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert len(lines) == wanted
    assert all(json.loads(line)["domain"] == "math" and json.loads(line)["correct"] is False for line in lines)


def test_a_rollout_is_taken_apart_and_its_group_stands_beside_it(reader: Reader, run: RlConfig) -> None:
    row = pq.read_table(run.out / "rollouts" / "step=000003.parquet").to_pylist()[0]
    page = reader.go("#/rollouts/3/0")
    assert page.locator(".response").text_content() == row["response"]
    page.keyboard.press("g")
    page.locator(".side article").first.wait_for()
    assert page.locator(".side article").count() == run.group_size


def test_problems_are_searched_sorted_and_followed_to_their_rollouts(reader: Reader, run: RlConfig) -> None:
    page = reader.go("#/problems")
    page.locator('input[name="search"]').fill("p1")
    page.locator("main .remark", has_text="11 problems of 24").wait_for()  # p1, p10 to p19
    page.locator('th button[data-sort="rollouts"]').click()
    page.locator('th[aria-sort="ascending"]', has_text="rollouts").wait_for()
    page.locator('th button[data-sort="rollouts"]').click()
    page.locator('th[aria-sort="descending"]', has_text="rollouts").wait_for()
    link = page.locator("tbody tr").first.locator("a")
    count = int(link.inner_text())
    link.click()
    reader.wait("rollouts")
    assert reader.text(".list .remark").startswith(f"{count} rollouts of")


def test_a_running_run_is_followed_without_reloading(reader: Reader, run: RlConfig) -> None:
    page = reader.go("#/overview")
    page.evaluate("window.stayed = true")
    longer = run.model_copy(update={"steps": run.steps + 1})
    training = Thread(target=run_rl, args=(longer,), kwargs={"console": QUIET, "resume": True})
    training.start()
    page.locator("#live", has_text="step 5 of 5").wait_for()
    page.locator(".facts", has_text="5 of 5").wait_for()
    training.join()
    assert page.evaluate("window.stayed")


DRAWINGS = """async () => {
  const { paced } = await import("/static/pace.js");
  window.drawings = [];
  window.more = paced(async () => {
    window.drawings.push(performance.now());
    await new Promise((done) => setTimeout(done, 100));
  });
}"""


def test_a_page_that_nobody_is_at_redraws_seldom(reader: Reader) -> None:
    """Clock of the test's own. A drawing takes 100 ms; news of the run comes all the time."""
    page = reader.go("#/compare")
    page.clock.install(time=0)
    page.clock.pause_at(1000)
    page.evaluate(DRAWINGS)

    def gaps(seconds: int) -> list[float]:
        before = page.evaluate("window.drawings.length")
        for _ in range(10 * seconds):
            page.evaluate("window.more()")
            page.clock.run_for(100)
        times = page.evaluate("window.drawings")[max(0, before - 1) :]
        return [round((later - earlier) / 1000) for earlier, later in pairwise(times)]

    assert set(gaps(18)[1:]) == {4}, "a fortieth of the time while its reader counts as there"
    assert gaps(60)[-2:] == [20, 20], "a two-hundredth after that"
    page.keyboard.press("Shift")
    assert gaps(10)[0] < 20 and page.evaluate("window.drawings.length") > 8, "a sign of life brings the next one forward"


def test_a_run_directory_that_goes_away_and_comes_back_is_told(chrome: Browser, run: RlConfig, tmp_path: Path) -> None:
    copy, away = tmp_path / "copy", tmp_path / "away"
    shutil.copytree(run.out, copy)
    with served(copy) as at:
        opened = Reader(chrome, at)
        page = opened.go("#/overview")
        copy.rename(away)
        page.locator(".error", has_text="any more").wait_for()
        away.rename(copy)
        page.locator(".error").wait_for(state="detached")
        opened.close()
