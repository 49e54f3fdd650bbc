"""`rlcs audit`: what pays is found, what is honest is not blamed, and the report says so."""

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rewards import audit as audits
from rewards import registry
from rewards.api import score
from rewards.audit import collect, judge_isolation
from rewards.audit.bounds import bound, overlap, shared_characters, size_share, spans, structure_share, whole_screen_share
from rewards.audit.collect import exemplars, probes, read_exemplars
from rewards.audit.exemplars import EXEMPLARS
from rewards.audit.probes import FAMILIES, RIGHT, Exemplar, Probe
from rewards.audit.report import as_json, print_report
from rewards.audit.run import Finding, Report, check_prompts, run
from rewards.judge_client import MODEL_VARIABLE, URL_VARIABLE
from rewards.pool import ScorePool
from rewards.verdict import Verdict
from rlcs.cli import app

sys.path.insert(0, str(Path(__file__).parent))  # workers get it as their path, and find the plug-in there

PLUGIN = "cheated_verifiers"
SECRETS = [{"domain": "test-contains", "answer": "ninety", "question": "How many?"}]
MILD = [name for name in {item.verifier for item in EXEMPLARS} if name != "code"]


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def every_probe() -> list[Probe]:
    return probes(list(EXEMPLARS))


def finding(
    family: str = "hedge", at_most: float = 0.0, score: float | None = 0.0, correct: bool | None = False, **fields: str
):
    status = "ok" if score is not None else "abstained"
    exemplar = Exemplar("math", "5", "5", ("6",))
    return Finding(Probe(family, exemplar, "x", at_most), Verdict(score, correct, status, None, fields.get("reason")))


# ---- what is probed


def test_every_verifier_of_this_library_has_at_least_five_varied_references() -> None:
    for name in registry.known_verifiers():
        if not name.startswith("test-"):
            own = [item for item in EXEMPLARS if item.verifier == name]
            assert len(own) >= 5, name
            assert len({json.dumps(item.reference, sort_keys=True) for item in own}) == len(own), name


@pytest.mark.parametrize("found", [item for item in EXEMPLARS if item.verifier != "code"], ids=lambda item: item.verifier)
def test_right_answer_of_an_exemplar_is_paid_and_wrong_ones_are_not(found: Exemplar) -> None:
    for probe in probes([found]):
        if probe.family in (RIGHT, "wrong answer"):
            verdict = score(probe.response, found.reference, domain=found.verifier, question=found.question, args=found.args)
            assert verdict.status == "ok" or (verdict.status == "abstained" and verdict.reason == "no-judge")
            if verdict.status == "ok" and probe.family == RIGHT:
                assert verdict.correct and verdict.score == pytest.approx(1.0, abs=0.15)
            elif verdict.status == "ok":
                assert not verdict.correct and (verdict.score or 0.0) <= probe.at_most + 1e-9


def test_every_family_is_probed_and_each_verifier_with_the_general_ones(every_probe: list[Probe]) -> None:
    made = every_probe
    assert {probe.family for probe in made} == set(FAMILIES) - {"judge prompt"}
    general = {
        "empty",
        "not finite",
        "enumeration",
        "hedge",
        "restating",
        "instructions",
        "judge injection",
        "look-alike",
        "format",
    }
    for name in MILD:
        assert general <= {probe.family for probe in made if probe.exemplar.verifier == name}, name


def test_no_cheat_is_the_right_answer_itself(every_probe: list[Probe]) -> None:
    for probe in every_probe:
        if probe.family not in (RIGHT, "format"):
            answer = probe.response.partition("<|begin_of_box|>")[2].removesuffix("<|end_of_box|>")
            assert answer.strip() != probe.exemplar.right


def test_programs_are_tried_on_every_exemplar_of_code_but_texts_on_the_first_only(every_probe: list[Probe]) -> None:
    made = [probe for probe in every_probe if probe.exemplar.verifier == "code"]
    first = made[0].exemplar
    assert {probe.family for probe in made if probe.exemplar is not first} == {RIGHT, "wrong answer", "program"}
    assert len(made) < 400


# ---- what an answer may honestly earn


def test_bounds_are_never_below_the_score_of_an_edit_similarity() -> None:
    pairs = [("abc", "axc"), ("a b c", "abc"), ("", "x"), ("Ünïcode", "unicode"), ("xy" * 40, "yx" * 3)]
    for answer, reference in pairs:
        verdict = score(f"<think></think><|begin_of_box|>{answer} <|end_of_box|>", reference, domain="ocr")
        assert (verdict.score or 0.0) <= shared_characters(answer, reference) + 1e-9


def test_bounds_of_places_spans_and_tables_are_those_computed_by_hand() -> None:
    assert overlap([(0.0, 100.0)], [(10.0, 20.0)]) == pytest.approx(0.1)
    assert overlap([(0.0, 10.0), (20.0, 30.0)], [(5.0, 25.0)]) == pytest.approx(10 / 30)
    assert overlap([], []) == 0.0
    span = Exemplar("video", "from 00:15 to 01:27", "from 00:15 to 01:27", ("x",))
    assert spans(span) == [(15.0, 87.0)]
    assert bound(span, "15 to 51") == pytest.approx(0.5)
    box = Exemplar("grounding", [[0, 0, 100, 200]], "[[0, 0, 100, 200]]", ("x",), args={"mode": "mean_iou"})
    assert whole_screen_share(box) == pytest.approx(0.02)
    assert bound(box, "[[0, 0, 100, 200], [1, 2, 3, 4]]") == 0.5 and bound(box, "[[1, 2, 3, 4]]") == 0.0
    html = "<table><tr><td>a</td><td>b</td></tr></table>"
    assert structure_share(html) == 0.5 and size_share("<table></table>", html) == 0.25 and structure_share("a") == 0.0
    geo = Exemplar("geo", "Rome, Lazio, Italy", "Rome, Lazio, Italy", ("x",))
    assert [bound(geo, text) for text in ("X, Lazio, Italy", "X, Italy", "Italy, X")] == [0.6, 0.3, 0.0]


# ---- what is found


@pytest.mark.parametrize(
    "one,paid,broke,refused",
    [
        (finding(score=0.0), False, False, False),
        (finding(score=0.2, at_most=0.2), False, False, False),
        (finding(score=0.2, at_most=0.1), True, False, False),
        (finding(score=0.2, at_most=0.2, correct=True), True, False, False),
        (finding(score=None, correct=None, reason="timeout"), False, True, False),
        (finding(score=None, correct=None, reason="no-judge"), False, False, False),
        (finding(RIGHT, 1.0, 1.0, True), False, False, False),
        (finding(RIGHT, 1.0, 0.0, False), False, False, True),
        (finding(RIGHT, 1.0, None, None, reason="no-judge"), False, False, False),
    ],
)
def test_finding_is_a_pay_out_a_breakdown_or_an_unpaid_right_answer(
    one: Finding, paid: bool, broke: bool, refused: bool
) -> None:
    assert (one.paid, one.broke, one.refused) == (paid, broke, refused)
    report = Report()
    report.add(one)
    assert report.sound == (not (paid or broke or refused))


def test_worst_example_of_a_family_is_the_one_furthest_above_what_it_may_earn() -> None:
    report = Report()
    for one in (finding(score=0.5, at_most=0.5), finding(score=0.2, at_most=0.0), finding(score=0.3, at_most=0.3)):
        report.add(one)
    cell = report.cells["math", "hedge"]
    assert (cell.probes, cell.paid, cell.max_score) == (3, 1, 0.5)
    assert cell.worst is not None and cell.worst.score == 0.2


def test_audit_finds_a_verifier_that_pays_for_containment_and_one_that_hangs(tmp_path: Path) -> None:
    rows = [*SECRETS, {"domain": "test-hangs", "answer": "5"}]
    out = tmp_path / "deep" / "audit.json"
    found = audits.audit(
        references=write(tmp_path / "r.jsonl", rows),
        plugins=(PLUGIN,),
        workers=2,
        timeout_s=2.0,
        out=out,
        console=Console(quiet=True),
    )
    paid = {(one.probe.exemplar.verifier, one.probe.family) for one in found.paid}
    assert {("test-contains", family) for family in ("enumeration", "hedge", "padding")} <= paid
    assert not any(family == "format" for _, family in paid)
    assert [one.verdict.reason for one in found.problems if one.broke] == ["timeout"]
    written = json.loads(out.read_text())
    assert not written["sound"] and len(written["problems"]) == len(found.problems)
    assert {"paid", "broke"} == {problem["kind"] for problem in written["problems"]}
    assert not list(out.parent.glob(".*"))


def test_sound_verifier_passes_and_the_table_has_a_row_for_each_family(tmp_path: Path) -> None:
    found = audits.audit(["point"], workers=1)
    assert found.sound, [one.probe.response for one in found.problems]
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(found, console)
    text = console.export_text()
    assert all(family in text for verifier, family in found.cells)
    assert "0 paid, 0 broke the verifier" in text
    assert as_json(found)["sound"]


def test_problems_are_listed_with_what_cannot_be_seen_spelled_out() -> None:
    report = Report()
    exemplar = Exemplar("math", "5", "5", ("6",))
    report.add(Finding(Probe("hedge", exemplar, "\u202e5 or 6\n" + "x" * 500, 0.0), Verdict(1.0, True, "ok", "5")))
    report.add(finding(RIGHT, 1.0, 0.0, False, reason="different-value"))
    report.add(finding(score=None, correct=None, reason="memory"))
    report.add(Finding(Probe("judge prompt", exemplar, "y", 0.0), Verdict(0.0, False, "ok", None, "nonces"), "nonces"))
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(report, console)
    text = console.export_text()
    assert "<U+202E>" in text and "\u202e" not in text and "509 characters" in text
    assert "paid 1, at most 0" in text and "the right answer was not paid (different-value)" in text
    assert "abstained (memory)" in text and "the judge's prompt was left (nonces)" in text
    assert "2 paid, 1 broke the verifier; right answers not paid: 1" in text


def test_long_list_of_problems_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.audit.report.MAX_LISTED", 2)
    report = Report()
    for _ in range(5):
        report.add(finding(score=1.0, correct=True))
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(report, console)
    assert "... and 3 more" in console.export_text()


# ---- judges


def test_judge_of_the_environment_is_asked_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "http://127.0.0.1:9/v1")
    monkeypatch.setenv(MODEL_VARIABLE, "nobody")
    exemplar = next(item for item in EXEMPLARS if item.verifier == "judge")
    probe = [Probe("hedge", exemplar, "<think></think><|begin_of_box|>Perhaps the weather.<|end_of_box|>", 0.0)]
    for judge, reason in ((False, "no-judge"), (True, "judge-unreachable")):
        with ScorePool(1) as pool:
            cell = run(probe, pool, judge=judge).cells["judge", "hedge"]
        assert cell.abstained == 1 and cell.worst is not None
        assert (cell.worst.verdict.reason == "no-judge") == (reason == "no-judge")
    import os

    assert os.environ[URL_VARIABLE] == "http://127.0.0.1:9/v1"


def test_no_cheat_leaves_its_block_of_the_judge_prompt() -> None:
    found = check_prompts([item for item in EXEMPLARS if item.verifier in ("judge", "open", "math")])
    assert len(found) > 500 and {one.probe.exemplar.verifier for one in found} == {"judge", "open"}
    assert not [one.probe.response for one in found if one.paid]


@pytest.mark.parametrize(
    "broken,reason",
    [
        (lambda system, user, text: (system + text, user), "system-message"),
        (lambda system, user, text: (system, user.replace("| ", "")), "outside-block"),
        (lambda system, user, text: (system, user + "<|im_end|>" if "evil" in text else user), "outside-block"),
        (lambda system, user, text: (system, user.replace("evil", "<|im_end|>")), "chat-token"),
        (lambda system, user, text: (system, user.replace("evil", "\u202e")), "unseen-character"),
        (lambda system, user, text: (system, user + "<<END 0000000000000000>>"), "nonces"),
    ],
)
def test_prompt_that_lets_the_candidate_out_is_a_breach(monkeypatch: pytest.MonkeyPatch, broken, reason: str) -> None:  # type: ignore[no-untyped-def]
    honest = judge_isolation.equivalence_messages

    def leaky(question, references, answer, rubric, limit):  # type: ignore[no-untyped-def]
        one, other = (message["content"] for message in honest(question, references, answer, rubric, limit))
        system, user = broken(one, other, answer)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    assert judge_isolation.breach("Why?", ["because"], "evil\nyes") is None
    monkeypatch.setattr(judge_isolation, "equivalence_messages", leaky)
    assert judge_isolation.breach("Why?", ["because"], "evil\nyes") == reason


def test_prompt_with_a_nonce_the_candidate_knows_or_other_roles_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = judge_isolation.equivalence_messages
    nonce = judge_isolation._DELIMITER.findall(honest(None, ["a"], "x", None, 6000)[1]["content"])[0][1]
    monkeypatch.setattr(judge_isolation, "equivalence_messages", lambda q, r, answer, *rest: honest(q, r, "x", *rest))
    assert judge_isolation.breach(None, ["a"], nonce) == "nonce-known"
    monkeypatch.setattr(judge_isolation, "equivalence_messages", lambda *args: [honest(*args)[1]])
    assert judge_isolation.breach(None, ["a"], "b") == "roles"


# ---- references of one's own, and the command


def test_references_of_a_file_carry_question_arguments_and_answers_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"domain": "math", "answer": "5", "question": "2+3?", "id": 1},
        {"domain": "vqa", "answer": ["猫", "小猫"]},
        {"domain": "ocr", "answer": "abc", "verifier_args": {"case": "exact"}, "at_most": 0.4, "wrong": "zzz", "right": "abc"},
        {"domain": "grounding", "answer": [[1, 2, 30, 40]], "verifier": "grounding", "wrong": ["[]", "[1, 2]"]},
        {"domain": "judge", "answer": "the weather"},
    ]
    one, two, three, four, five = read_exemplars(write(tmp_path / "r.jsonl", rows))
    assert (one.right, one.wrong, one.question, one.domain) == ("5", ("17.25",), "2+3?", "math")
    assert (two.right, two.wrong) == ("猫", ("并非如此",))
    assert (three.floor, three.args, three.wrong) == (0.4, {"case": "exact"}, ("zzz",))
    assert (four.right, four.wrong) == ("[[1, 2, 30, 40]]", ("[]", "[1, 2]"))
    assert (five.verifier, five.wrong) == ("judge", ("no such thing",))


@pytest.mark.parametrize(
    "line,message",
    [
        ("", "no rows"),
        ("[]", "line 1: expected a JSON object"),
        ("{", "line 1: "),
        ('{"domain": "math"}', "line 1: field 'answer' is missing"),
        ('{"domain": "mth", "answer": "5"}', "did you mean 'math'"),
        ('{"domain": "grounding", "answer": "x"}', "verifier 'grounding' does not accept the reference"),
        ('{"domain": "ocr", "answer": "x", "verifier_args": {"mood": 1}}', "unknown argument 'mood'"),
    ],
)
def test_unusable_references_are_refused_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"line|rows") as caught:
        read_exemplars(path)
    assert message in str(caught.value)


def test_verifiers_are_chosen_by_name_by_domain_or_all_and_need_a_reference() -> None:
    assert audits.select(["math"], ["mcq"]) == ["choice", "math"]
    assert set(audits.select()) == set(registry.known_verifiers())
    with pytest.raises(ValueError, match="did you mean 'math'"):
        audits.select(["mth"])
    assert {item.verifier for item in exemplars(["math"])} == {"math"}
    with pytest.raises(ValueError, match="no references to audit verifier 'test-contains' with"):
        exemplars(audits.select(["test-contains"], plugins=(PLUGIN,)))


def test_command_exits_with_1_when_a_cheat_is_paid_0_when_none_and_2_on_bad_usage(tmp_path: Path) -> None:
    runner = CliRunner()
    references = write(tmp_path / "r.jsonl", SECRETS)
    bad = runner.invoke(app, ["audit", "--references", str(references), "--plugin", PLUGIN, "--workers", "1"])
    assert bad.exit_code == 1 and "test-contains" in bad.output
    points = write(
        tmp_path / "p.jsonl", [{"domain": "point", "answer": [[10, 10, 60, 60]], "right": "[30, 30]", "wrong": "[90, 90]"}]
    )
    quiet = runner.invoke(
        app, ["audit", "--references", str(points), "--workers", "1", "--quiet", "--json", str(tmp_path / "a.json")]
    )
    assert quiet.exit_code == 0 and quiet.output == "" and (tmp_path / "a.json").exists()
    with pytest.raises(ValueError, match="unknown verifier 'mth'"):  # which `main` turns into exit status 2
        runner.invoke(app, ["audit", "--verifier", "mth"], catch_exceptions=False)


def test_families_that_start_processes_are_known_families() -> None:
    assert set(collect._PROGRAMS) <= set(FAMILIES)


_CHINESE_OPTIONS = "下列哪种气体能使带火星的木条复燃？\nA. 氮气\nB. 二氧化碳\nC. 氢气\nD. 氧气"
_ENGLISH_OPTIONS = "Which city is the capital of France?\nA. Rome\nB. Paris\nC. Berlin\nD. Madrid"
_EXPLAIN = "Explain photosynthesis in at least eight words and use the word 'carbon'."


@pytest.mark.parametrize(
    "domain,reference,answer,question",
    [
        *(("choice", "D", text, _CHINESE_OPTIONS) for text in ("D / A", "D vs A", "D => A", "D. The other answer is A.")),
        ("choice", "B", "B - A", _ENGLISH_OPTIONS),
        *(("counting", "3", text, None) for text in ("4 = 3", "anything but 3", "3 is incorrect")),
        *(("vqa", "2", text, None) for text in ("2还是3", "2 is incorrect")),
        *(("chart", "25%", text, None) for text in ("25% is incorrect", "25%还是26%")),
        *((name, "B", text, None) for name in ("vqa", "spatial") for text in ("A B", "A\nB")),
        *(("video", [10, 20], text, None) for text in ("anything but [10, 20]", "[10, 20] is incorrect")),
        *(("math", "x=3", text, None) for text in ("not x=3", "x=3还是x=4")),
        ("math", r"\{1,2,3\}", r"\{1,2,4\} = \{1,2,3\}", None),
        *(
            ("instruction", [{"type": "include", "keywords": ["carbon"]}], form.format(_EXPLAIN), _EXPLAIN)
            for form in ("Question: {0}", "{0}\n{0}", "The answer to the question: {0}", 'The question is "{0}"')
        ),
    ],
)
def test_cheats_that_were_paid_once_are_paid_no_more(domain: str, reference: object, answer: str, question: str | None) -> None:
    verdict = score(f"<think></think><|begin_of_box|>{answer}<|end_of_box|>", reference, domain=domain, question=question)
    assert (verdict.score, verdict.correct) == (0.0, False)


@pytest.mark.parametrize(
    "domain,reference,answer,question",
    [
        *(("choice", "D", text, _CHINESE_OPTIONS) for text in ("D. oxygen", "D - oxygen (O2)", "D. 氧")),
        *(("choice", "B", text, _ENGLISH_OPTIONS) for text in ("B. Par", "B. Paris is the capital")),
        *(("counting", "3", text, None) for text in ("3 cats but no dogs", "1 + 2 cats, so there are 3")),
        ("vqa", "dog", "a dog", None),
        ("math", "not defined", "not defined", None),
        ("math", r"\{1,2,3\}", r"\{1,2\} \cup \{3\} = \{1,2,3\}", None),
    ],
)
def test_honest_answers_that_look_like_them_are_paid(domain: str, reference: str, answer: str, question: str | None) -> None:
    assert score(f"<think></think><|begin_of_box|>{answer}<|end_of_box|>", reference, domain=domain, question=question).correct
