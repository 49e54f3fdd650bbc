"""What published verifiers get wrong, each as a test: they pay for wrong answers, refuse right ones, or can be made to hang."""

import threading
import time

import pytest

from rewards import score
from rewards.api import score_answer


def paid(answer: str, reference: str, question: str | None = None) -> bool | None:
    return score_answer(answer, reference, domain="math", question=question).correct


def test_100_m_is_not_100_cm() -> None:
    assert paid("100 cm", "100 m") is False
    assert paid("10000 cm", "100 m") is True


def test_minute_numbers_of_different_size_differ() -> None:
    assert paid("10^{-21}", "10^{-20}") is False
    assert paid("1e-20", "10^{-20}") is True


def test_every_count_of_a_list_of_counts_is_compared() -> None:
    assert paid("40 red, 1 blue", "40 red, 60 blue") is False
    assert paid("60 blue, 40 red", "40 red, 60 blue") is True


def test_mixed_number_is_not_its_whole_part() -> None:
    assert paid("2 2/3", "2") is False
    assert paid("2 2/3", "8/3") is True
    assert paid(r"2\frac{2}{3}", "8/3") is True


def test_false_equation_does_not_count_as_its_right_side() -> None:
    assert paid("3=7", "7") is False


def test_unevaluated_integral_is_not_its_value() -> None:
    assert paid(r"\int_0^{12} 1\,dx", "12") is False


def test_box_inside_the_thinking_part_is_a_format_error() -> None:
    response = "<think><|begin_of_box|>5<|end_of_box|></think>I do not know."
    verdict = score(response, "5", domain="math")
    assert (verdict.status, verdict.score, verdict.reason) == ("format_error", 0.0, "box-only-in-think")


def test_percentage_is_one_number_not_three() -> None:
    assert paid("10%", "0.1") is True
    assert paid("10%", "10") is False
    assert paid("10", "10%") is False
    assert paid("10", "10%", "What percentage of them?") is True


def test_factor_of_a_hundred_is_never_ignored() -> None:
    assert paid("50", "0.5") is False
    assert paid("0.005", "0.5") is False
    assert paid("0.5", "50", "What percent is it?") is False


def test_one_third_rounded_to_three_digits_is_accepted() -> None:
    assert paid("0.333", "1/3") is True


def test_degrees_are_accepted_for_radians() -> None:
    assert paid(r"60^\circ", r"\frac{\pi}{3}") is True
    assert paid(r"30^\circ", r"\frac{\pi}{3}") is False


def test_labelled_values_are_accepted_for_a_bare_list() -> None:
    assert paid("a=1, b=2", "1,2") is True
    assert paid("a=2, b=1", "1,2") is False


def test_column_vector_is_accepted_for_a_tuple() -> None:
    assert paid(r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)") is True
    assert paid(r"\begin{pmatrix}2\\1\end{pmatrix}", "(1,2)") is False


def test_identical_answers_are_always_paid() -> None:
    for text in ("5", "x^2", "east", "(1,2)", r"\frac{1}{2}", "甲", "12 cm", "y=2x+1"):
        assert paid(text, text) is True


def test_answers_of_the_known_hacks_are_not_paid() -> None:
    assert paid("a correct number between 0 and 10", "7") is False
    assert paid("very close to the speed of light", "299792458") is False


def test_text_of_the_policy_is_not_evaluated(tmp_path) -> None:
    target = tmp_path / "made"
    code = f"open('{target}','w').close()"
    for answer in (code, f"[{code}, 2]", f"2\\pi if {code} else 1", f"(lambda: {code})()", f"\\text{{{code}}}"):
        for reference in (r"\begin{pmatrix}1\\2\end{pmatrix}", r"2\pi", "5"):
            assert paid(answer, reference) is False
    assert not target.exists()


@pytest.mark.parametrize("bomb", ["9^{9^{9^{9}}}", "2^{30^5}", "9^9^9", "10^{10^{10}}!", r"\binom{10^9}{10^8}"])
def test_bomb_costs_less_than_a_second_in_any_thread(bomb: str) -> None:
    found: list[bool | None] = []
    start = time.thread_time()
    thread = threading.Thread(target=lambda: found.append(paid(bomb, "5")))
    thread.start()
    thread.join(60)
    assert found == [False]
    assert time.thread_time() - start < 1
