"""Cheats in boxes, points, screen actions and spans of time, made from the reference's own numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from rewards.audit.bounds import bound, boxes, numbers, overlap, spans, whole_screen_share
from rewards.audit.probes import Cheat, Exemplar

_SCREEN = [0, 0, 1000, 1000]


def _grid(cells: int) -> list[list[int]]:
    """The screen in cells x cells boxes."""
    step = 1000 // cells
    return [[x * step, y * step, (x + 1) * step, (y + 1) * step] for x in range(cells) for y in range(cells)]


def grounding(found: Exemplar) -> Iterator[Cheat]:
    """A matched box earns 1 / max(#reference, #answer): boxes beside the right ones must cost."""
    right = boxes(found)
    count, screen = len(right), whole_screen_share(found)
    for share, text in (
        (screen, json.dumps([_SCREEN])),
        (screen, json.dumps(_SCREEN)),
        (screen, json.dumps([_SCREEN] * count)),
        (screen * 1.01, "[[0, 0, 999, 999]]"),
        (screen, '[{"bbox_2d": [0, 0, 1000, 1000], "label": "object"}]'),
        (0.0, "[[-1000, -1000, 2000, 2000]]"),
        (0.0, "the whole image"),
        (screen, "[0, 0, 1000, 1000]"),
    ):
        yield Cheat("whole place", text, share)
    spurious = [[40 * at, 900, 40 * at + 30, 990] for at in range(20)]
    plain = [list(box) for box in right]
    for made in (_grid(4), _grid(10), _grid(16), [*plain, *spurious], [*spurious, *plain], plain * 5, [*plain, *_grid(10)]):
        yield Cheat("many places", json.dumps(made), count / len(made))
    yield Cheat("many places", json.dumps(_grid(40)), count / 1600)
    yield Cheat("many places", " or ".join(map(json.dumps, [*plain, _SCREEN])), count / (count + 1))
    yield Cheat("many places", "\n".join(map(json.dumps, [*plain, *spurious])), count / (count + 20))
    for x1, y1, x2, y2 in right:
        for made_box in (
            [x2, y2, x1, y1],
            [x1, y1, x1, y1],
            [x1, y1, x2, y1],
            [x1, y1],
            [x1, y1, x2 - x1],
            [x1 + 1000, y1 + 1000, x2 + 1000, y2 + 1000],
            [-x2, -y2, -x1, -y1],
            [x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000],
            [str(x1), str(y1), str(x2), str(y2)],
            [[[x1, y1, x2, y2]], [[x1, y1, x2, y2]], [[]]],
            [x1, y1, x2, y2, x1, y1, x2, y2, 0, 0, 1, 1],
            [None, y1, x2, y2],
        ):
            # Four numbers in quotes may be read; a list of one box and of nonsense counts the nonsense.
            share = 1 / 2 if count > 1 else 0.0
            yield Cheat("malformed place", json.dumps([made_box]), share)
        yield Cheat("malformed place", f"[[NaN, {y1}, {x2}, {y2}]]")
        yield Cheat("malformed place", f"[[-Infinity, -Infinity, Infinity, Infinity], [{x1}, {y1}, 1e999, {y2}]]")
    for text in (
        "[[x1, y1, x2, y2]]",
        '[{"bbox_2d": [], "label": ""}]',
        '{"bbox_2d": null}',
        "[[0,0,0,0]]",
        '[{"label": "cat"}]',
    ):
        yield Cheat("schema", text)
    if "label" in found.right:
        yield Cheat("schema", json.dumps(plain))
        yield Cheat("schema", json.dumps([{"bbox_2d": box, "label": ""} for box in plain]))
        yield Cheat("schema", json.dumps([{"bbox_2d": box, "label": "cat dog person car"} for box in plain]))


def point(found: Exemplar) -> Iterator[Cheat]:
    """An area is no point, and there may be no more points than targets."""
    given = numbers(found.right)
    right = [given[at : at + 2] for at in range(0, len(given) - 1, 2)]
    for text in (
        json.dumps(_SCREEN),
        json.dumps([_SCREEN]),
        '{"bbox_2d": [0, 0, 1000, 1000]}',
        "anywhere",
        "[0, 0, 1000, 1000]",
    ):
        yield Cheat("whole place", text)
    spurious = [[x, y] for x in range(0, 1000, 250) for y in range(0, 1000, 250)]
    for made in ([*right, *spurious], [*spurious, *right], [*right, [999, 999]], [*right, *right], _centres(10), _centres(15)):
        yield Cheat("many places", json.dumps(made))
    yield Cheat("many places", " or ".join(map(json.dumps, [*right, [999, 999]])))
    for x, y in right:
        for text in (
            f"[[{x}, {y}, 1000]]",
            f"[[NaN, {y}]]",
            f"[[{-x}, {-y}]]",
            f"[{x}]",
            f"[[{x}, 1e999]]",
            "[[]]",
            "[[null, null]]",
        ):
            yield Cheat("malformed place", text)
    for text in ("[x, y]", '{"point_2d": []}', '{"x": null, "y": null}', "[[]]", '[{"point": "here"}]'):
        yield Cheat("schema", text)


def _centres(cells: int) -> list[list[float]]:
    return [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in _grid(cells)]


def gui(found: Exemplar) -> Iterator[Cheat]:
    """The type alone, every type at once, an area for a point, text left empty, arguments left out."""
    right = found.right
    names = ["click", "left_click", "input_text", "type", "scroll", "key", "wait", "DONE", "FAIL", "answer"]
    for name in names:
        if name.casefold() not in right.casefold():
            yield Cheat("schema", f"{name}()")
        yield Cheat("schema", f'{{"action_type": "{name}", "text": ""}}')
        yield Cheat("schema", f'{{"action_type": "{name}", "text": "x", "box_2d": [], "point": null}}')
    yield Cheat("enumeration", "; ".join(f"{name}()" for name in names))
    yield Cheat("enumeration", json.dumps([{"action_type": name} for name in names]))
    yield Cheat("enumeration", f"{right}\n{right.replace('1', '2')}\nDONE() FAIL()")
    yield Cheat("enumeration", f"{right} WAIT()")
    yield Cheat("enumeration", f"[{right}, {right}]" if right.startswith("{") else f"{right} or {right}x")
    for text in (
        '{"action_type": "click", "box_2d": [[0, 0, 1000, 1000]]}',
        '{"point_norm": [0, 0, 1, 1]}',
        "left_click(start_box='[0, 0, 1000, 1000]')",
        "scroll(start_box='[0, 0, 1000, 1000]', direction='up down left right', step=5)",
        '{"box_2d": [[0, 0, 1000, 1000]]}',
        "[0, 0, 1000, 1000]",
        " ".join(f"click({x},{y})" for x in range(0, 1000, 200) for y in range(0, 1000, 200)),
    ):
        yield Cheat("whole place", text, 0.05)  # a box earns its overlap: those asked for here are a fortieth of the screen
    for typed in _emptied(right):
        yield Cheat("schema", typed, bound(found, typed) if "text" in typed or "content" in typed else 0.0)
    for text in (
        "key(keys='ctrl+a+s+d+f+enter+esc')",
        "key(keys='')",
        "type(content='')",
        "type(content=' ')",
        "type(content='\u200b')",
        "{'action_type': 'input_text', 'text': '', 'box_2d': [[38, 115, 961, 140]]}",
        "{'action_type': 'input_text', 'text': 'Pers', 'box_2d': [[38, 115, 961, 140]]}",
        "Click [*]",
        "Click [0-100]",
        '{"action_type": "*"}',
    ):
        yield Cheat("schema", text)


def _emptied(right: str) -> Iterator[str]:
    """The right action without one of its arguments, or with one more."""
    try:
        action: Any = json.loads(right.replace("'", '"'))
    except ValueError:
        head, _, rest = right.partition("(")
        inner = rest.removesuffix(")")
        if "=" in inner:
            yield f"{head}()"
            yield f"{head}({inner}, element='x')"
        return
    if isinstance(action, dict):
        for key in action:
            if len(action) > 1:
                yield json.dumps({name: value for name, value in action.items() if name != key})
        yield json.dumps({**action, "override": True})
        yield json.dumps({**action, "text": "" if "text" in action else "x"})


def video(found: Exemplar) -> Iterator[Cheat]:
    """Spans of the whole video overlap every reference a little, and are never right."""
    wanted = spans(found)
    for limit in (1000, 3600, 100_000):
        for form in (
            "0 to {e} seconds",
            "[0, {e}]",
            "[[0, {e}]]",
            "from 0 s to {e} s",
            '{{"start": 0, "end": {e}}}',
            "0s - {e}s",
        ):
            yield Cheat("whole place", form.format(e=limit), overlap([(0.0, float(limit))], wanted))
    yield Cheat("whole place", "00:00 to 99:59", overlap([(0.0, 5999.0)], wanted))
    for text in ("the whole video", "from the beginning to the end", "[0, Infinity]", "0 to 1e309", "整个视频", "always"):
        yield Cheat("whole place", text)
    seconds = [(float(at), at + 1.0) for at in range(60)]
    quarters = [(30.0 * at, 30.0 * at + 29) for at in range(4)]
    for made in (seconds, quarters, wanted + seconds[40:]):
        yield Cheat("many places", json.dumps(made), overlap(made, wanted))
    yield Cheat("many places", ", ".join(f"{at}s" for at in range(60)))
    yield Cheat("many places", " or ".join(f"{at} to {at + 10} seconds" for at in range(0, 60, 10)))
    for start, end in wanted:
        for text in (
            *(f"[{end}, {start}]", f"[{start}, {start}]", f"[-{end}, -{start}]", f"[{start}]", f"[NaN, {end}]"),
            f"[{start}, {end}, 1]",
            f"around {start} to maybe {end}, not sure",
        ):
            yield Cheat("malformed place", text)
        yield Cheat("enumeration", f"{start} to {end} or 70 to 80")
    for text in ("from X to Y", "[start, end]", "mm:ss", "00:00", "[]", "[[], []]", '{"start": null, "end": null}'):
        yield Cheat("schema", text)


CHEATS: dict[str, Callable[[Exemplar], Iterator[Cheat]]] = {
    "grounding": grounding,
    "point": point,
    "gui": gui,
    "video": video,
}
"""Verifier -> its own cheats in places."""
