"""Takes the pictures of docs/dashboard.md of a run of your own: python docs/images/dashboard/take.py RUN [--out FOLDER]

Needs Chromium (.ci/chromium finds or installs one; CHROMIUM may name it), Playwright and a run of `make quickstart`.
"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
COLOURS = 128  # of a picture's palette: a third of the bytes, no difference to be seen
# name: (place, width, height, scheme)
PICTURES = {
    "overview": ("#/overview", 1280, 980, "light"),
    "difficulty": ("#/difficulty", 1280, 1130, "light"),
    "rollout": ("#/rollouts?domain=gui&correct=false&fate=trained&colour=tokens", 1280, 900, "dark"),
    "problem": ("#/problems?sort=rollouts&descending=1", 1280, 760, "light"),
    "phone": ("#/overview", 390, 1500, "dark"),
}


def take(page: Page, address: str, place: str, file: Path) -> None:
    page.goto(address + place)
    page.locator("html[data-drawn]").wait_for(state="attached")
    if "#/problems" in place:
        page.locator("tbody tr").first.click()
        page.locator('html[data-drawn^="problems "]').wait_for(state="attached")
    page.get_by_text("reading snapshot").wait_for(state="hidden")
    page.wait_for_timeout(2000)  # Plotly fits its labels after it has drawn, and moves what flows
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", nargs="*", choices=sorted(PICTURES), default=sorted(PICTURES))
    options = parser.parse_args()
    path = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *BROWSERS)))), None)
    if path is None:
        sys.exit("no Chromium found; install it (Debian: apt install chromium) or name one in CHROMIUM")
    command = [sys.executable, "-m", "rlcs.cli", "dashboard", str(options.run), "--port", "0", "--no-open"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(found[0] + "/" for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with sync_playwright() as library:
            browser = library.chromium.launch(executable_path=path, args=FLAGS)
            for name in options.only:
                place, width, height, scheme = PICTURES[name]
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
                )
                take(context.new_page(), address, place, options.out / f"{name}.png")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
