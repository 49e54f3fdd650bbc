"""Every parser refuses what it cannot read with a reason of its own and nothing else, near its grammar and far from it."""

import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))

from fuzz_strategies import WORDS, texts  # noqa: E402
from fuzz_targets import CASES, PARSERS, SKIPPED, Case, decode, read_case, score_case, score_text  # noqa: E402

from rewards.number_words import chinese_number  # noqa: E402

MAX_CORPUS_BYTES = 200_000


def test_every_parser_has_a_grammar_to_write_texts_from() -> None:
    assert set(WORDS) == set(PARSERS)


@pytest.mark.parametrize("target", PARSERS)
def test_parser_keeps_its_promises_near_its_grammar(target: str) -> None:
    @settings(max_examples=200)
    @given(texts(target))
    def check(text: str) -> None:
        PARSERS[target](text)

    check()


@pytest.mark.parametrize("target", PARSERS)
def test_parser_keeps_its_promises_for_any_text(target: str) -> None:
    @settings(max_examples=60)
    @given(st.text(st.characters(), max_size=200))  # lone surrogates included
    @example("\ud800" * 50)
    @example("9" * 5000)
    @example("(" * 2000)
    def check(text: str) -> None:
        PARSERS[target](text)

    check()


@pytest.mark.parametrize("name", sorted(set(CASES) - SKIPPED))
def test_verifier_gives_a_verdict_on_any_answer(name: str) -> None:
    grammars = st.sampled_from(sorted(WORDS)).flatmap(lambda target: texts(target, 12))

    @settings(max_examples=80)
    @given(st.sampled_from(CASES[name]), st.one_of(grammars, st.text(st.characters(), max_size=60)))
    def check(exemplar: object, answer: str) -> None:
        score_case(Case(exemplar, answer))  # type: ignore[arg-type]

    check()


def test_kept_corpus_is_small_and_every_file_of_it_still_passes() -> None:
    size = 0
    folders = {folder.name: folder for folder in (FUZZ / "corpus").iterdir()}
    assert set(folders) == {*PARSERS, "score"}
    for name, folder in folders.items():
        files = sorted(folder.iterdir())
        assert files, f"no corpus for {name}"
        for file in files:
            data = file.read_bytes()
            size += len(data)
            (score_text if name == "score" else PARSERS[name])(decode(data))
    assert size < MAX_CORPUS_BYTES


def test_corpus_of_the_score_target_reaches_every_verifier_that_starts_no_process() -> None:
    reached = {read_case(decode(file.read_bytes())).exemplar.verifier for file in (FUZZ / "corpus" / "score").iterdir()}
    assert reached == set(CASES) - SKIPPED


def test_first_line_chooses_the_exemplar_by_name_and_number_or_by_its_hash() -> None:
    assert read_case("math 2\n5") == Case(CASES["math"][2], "5")
    assert read_case("math 99\n5").exemplar.verifier == "math"
    for first in ("code 0", "math x", "nothing", "", "\udcff"):
        case = read_case(f"{first}\n5")
        assert case.answer == "5" and case.exemplar.verifier not in SKIPPED


def test_bytes_that_are_no_text_become_lone_surrogates() -> None:
    assert decode(b"a\xff") == "a\udcff"


@pytest.mark.parametrize("text", ["十x", "三点x", "x", "", "十\udce5"])
def test_chinese_number_of_a_text_that_is_none_is_none(text: str) -> None:
    """Found by the coverage-guided fuzzer: it raised KeyError."""
    assert chinese_number(text) is None
