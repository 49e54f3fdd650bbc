"""`rlcs dashboard RUN --export FILE.html`: the page and a bounded sample of the runs in one file that needs no server.

The answers are those that the server would give, by address; lists are made by the page from the rows of the sample.
"""

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from starlette.datastructures import QueryParams

from rlcs.dashboard.answers import ANSWERS, Missing
from rlcs.dashboard.compare import AXES, HELDOUT, compare, default_metric
from rlcs.dashboard.media import BadMedia, Media, media_of
from rlcs.dashboard.parameters import Parameters
from rlcs.dashboard.server import STATIC, finite, plotly_script, response_body
from rlcs.dashboard.watch import Watch, Watched
from sft.rundir import PARTIAL

_STEPS = 12  # steps, evenly spaced, that rollouts are taken from
_GROUPS = 2  # groups of each domain from each of them
_PROBLEMS = 200  # further problems, drawn from a seed
_MOST_TEXT, _MOST_MEDIA = 24 << 20, 12 << 20  # bytes of a run's details, and of its images
_WIDTH = 512  # pixels that images are scaled down to
_FRAMES = 8


def export_page(watch: Watch, out: Path) -> Path:
    """Reads the runs of `watch` whole, which is closed after it, and writes the page to `out`."""
    with closing(watch):
        watch.read_all()
        page = _page(_data(watch))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + PARTIAL)
    partial.write_text(page, encoding="utf-8", errors="replace")
    partial.replace(out)
    return out


def _data(watch: Watch) -> dict[str, Any]:
    responses: dict[str, Any] = {"/api/runs": {"version": 1, "export": True, "runs": watch.summaries()}}
    media: dict[str, str] = {}
    samples = {}
    for watched in watch.runs.values():
        responses |= _views(watched)
        samples[watched.run.name] = _sample(watched, responses, media)
    responses |= _comparisons(watch)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"version": 1, "made": made, "responses": responses, "media": media, "samples": samples}


def address(path: str, query: Mapping[str, str] | None = None) -> str:
    """As the page asks for it: keys in order, written as browsers write them."""
    if not query:
        return path
    return f"{path}?{urlencode(sorted(query.items()), safe='*').replace('~', '%7E')}"


def _answer(watched: Watched, path: str, query: Mapping[str, str] | None = None, **places: int) -> Any:
    return response_body(ANSWERS[path](watched, Parameters(QueryParams(dict(query or {}))), places))


def _base(watched: Watched) -> str:
    return f"/api/runs/{quote(watched.run.name)}"


def _views(watched: Watched) -> dict[str, Any]:
    found = {address(f"{_base(watched)}/overview"): _answer(watched, "/overview")}
    cells = [{}, *({"domain": domain} for domain in sorted({domain for domain, _ in watched.snapshots.cells}))]
    for path in ("/difficulty", "/flow"):
        found |= {address(f"{_base(watched)}{path}", query): _answer(watched, path, query) for query in cells}
    return found


def _comparisons(watch: Watch) -> dict[str, Any]:
    runs = {name: watched.run for name, watched in watch.runs.items()}
    domains = sorted({domain for run in runs.values() for domain in run.domains})
    found: dict[str, Any] = {"/api/compare": compare(runs, default_metric(runs), "step", "")}
    metrics = [
        *([HELDOUT] if any(run.has("heldout.jsonl") for run in runs.values()) else []),
        "pass_rate",
        "reward",
        "mixed_fraction",
    ]
    for metric in metrics:
        for axis in AXES:
            for domain in ["", *(domains if metric != "mixed_fraction" else [])]:
                asked = {"metric": metric, "x": axis} | ({"domain": domain} if domain else {})
                found[address("/api/compare", asked)] = compare(runs, metric, axis, domain)
    names = ["/api/compare", *(name for name in found if name != "/api/compare")]
    for name in names:
        found[name] = {**found[name], "metrics": metrics, "domains": domains}
    return found


def _sample(watched: Watched, responses: dict[str, Any], media: dict[str, str]) -> dict[str, Any]:
    """Rows of the sample; their details go to `responses`, their images to `media`, both within bounds."""
    run, left = watched.run, _MOST_TEXT
    rows: list[dict[str, Any]] = []
    for step in _spread(list(watched.rollouts.files), _STEPS):
        for group in _groups(watched, step):
            details = {}
            for row in group:
                try:
                    detail = _answer(watched, "/rollouts/{step:int}/{row:int}", step=step, row=row["row"])
                except Missing:
                    continue
                if detail["tokens"] is not None:
                    detail |= {"tokens": None, "tokens_note": "left out of the export"}
                details[f"{_base(watched)}/rollouts/{step}/{row['row']}"] = detail
            size = sum(len(json.dumps(one)) for one in details.values())
            if len(details) == len(group) and size <= left:
                left -= size
                rows += group
                responses |= details
    problems = watched.snapshots.problems
    count = 0 if problems is None else len(problems)
    drawn = np.random.default_rng(0).choice(count, min(count, _PROBLEMS), replace=False).tolist()
    indices = sorted({row["index"] for row in rows if row["index"] < count} | set(drawn))
    kept = []
    for index in indices:
        try:
            detail = _answer(watched, "/problems/{index:int}", index=index)
        except Missing:
            continue
        size = len(json.dumps(detail))
        if size <= left:
            left -= size
            kept.append(index)
            responses[f"{_base(watched)}/problems/{index}"] = detail
    _media(watched, kept, media)
    total = watched.rollouts.total_rows
    return {
        "problems": {"rows": response_body(watched.problems.rows(np.array(kept, np.int64))), "total": count},
        "rollouts": {"rows": rows, "total": total},
        "note": f"a sample: {len(kept)} of {count} problems, {len(rows)} of {total} rollouts of {run.name}",
    }


def _spread(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, the first and the last among them, evenly between."""
    ordered = sorted(steps)
    if len(ordered) <= count:
        return ordered
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def _groups(watched: Watched, step: int) -> Iterator[list[dict[str, Any]]]:
    """The first groups of each domain of a step, as rows of /rollouts."""
    query = {"step_from": str(step), "step_to": str(step), "order": "oldest", "limit": "500"}
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for row in _answer(watched, "/rollouts", query)["rows"]:
        groups = found.setdefault(row["domain"], [])
        if groups and groups[-1][0]["index"] == row["index"] and groups[-1][-1]["sample"] < row["sample"]:
            groups[-1].append(row)
        else:
            groups.append([row])
    for groups in found.values():
        yield from groups[:_GROUPS]


def _media(watched: Watched, indices: Sequence[int], media: dict[str, str]) -> None:
    left, path = _MOST_MEDIA, watched.problem_file.path
    for index in indices:
        problem = watched.problem_file.line(index)
        for n, one in enumerate(media_of(problem, path.parent, watched.allowed) if problem and path else []):
            if not isinstance(one, Media):
                continue
            for frame in range(min(one.described(n)["frames"], _FRAMES)):
                try:
                    content = base64.b64encode(one.frame(frame, _WIDTH)).decode()
                except BadMedia:
                    break
                if len(content) > left:
                    return
                left -= len(content)
                at = f"{_base(watched)}/problems/{index}/media/{n}"
                media[f"{at}/{frame}"] = f"data:image/png;base64,{content}"
                if frame == 0:
                    media[at] = media[f"{at}/0"]


def _page(data: Any) -> str:
    """index.html with what it links to in its place. Nothing but our two scripts may run in it, whatever the data holds."""
    script = _joined("app.js")
    plotly = plotly_script().read_text(encoding="utf-8").replace("</script", "<\\/script")
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    scripts = f"'sha256-{_hash(script)}' 'sha256-{_hash(plotly)}'"
    policy = f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    meta = f'<meta http-equiv="content-security-policy" content="{html.escape(policy, quote=True)}">'
    inline = json.dumps(finite(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        inline = inline.replace(char, f"\\u{ord(char):04x}")

    def style(link: re.Match[str]) -> str:
        return f"<style>\n{(STATIC / link[1]).read_text(encoding='utf-8')}</style>"

    page = re.sub(r'<link rel="stylesheet" href="/static/([\w.-]+)">', style, page)
    page = re.sub(r'<(?:script [^>]*src|link [^>]*href)="/[^>]*>(?:</script>)?\n?', "", page)
    page = page.replace("<head>", f"<head>\n{meta}", 1)
    ends = f'<script type="application/json" id="rlcs-export">{inline}</script>\n<script id="plotly">{plotly}</script>\n'
    head, _, tail = page.rpartition("</body>")
    return f'{head}{ends}<script type="module">{script}</script>\n</body>{tail}'


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.-]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) ([\w$]+))", re.MULTILINE)


def _joined(entry: str) -> str:
    """The modules as one, each in a scope of its own, in the order of their imports. What they export never changes, so that
    what is imported may be a copy.
    """
    seen: list[str] = []
    parts = ["const modules = {};"]

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.append(name)
        text = (STATIC / name).read_text(encoding="utf-8")
        for imported in _IMPORT.finditer(text):
            visit(imported[2])
        exports = ", ".join(found[1] for found in _EXPORT.finditer(text))
        text = _IMPORT.sub(
            lambda found: f"const {{{found[1].replace(' as ', ': ')}}} = modules[{json.dumps(found[2])}];\n", text
        )
        text = _EXPORT.sub("", text)
        if fault := re.search(r"^(?:import|export)\b.*|\bimport\(.*", text, re.MULTILINE):
            raise ValueError(
                f"{name}: {fault[0]!r} cannot be put into one file; expected import {{...}} and export of a declaration"
            )
        parts.append(f"modules[{json.dumps(name)}] = (() => {{\n{text}\nreturn {{ {exports} }};\n}})();")

    visit(entry)
    return "\n".join(parts).replace("</script", "<\\/script")
