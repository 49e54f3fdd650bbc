"""Loading examples: what is an error, what is rejected, and the non-thinking form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sft_lines import Line, Write, example, shown

from rollout.chat import ChatRenderer
from sft.data import DataError, as_nothink, lines_of, load_examples
from sft.data_record import digest, fingerprints


def change(**fields: Any) -> Callable[[Line], Any]:
    return lambda line: {**line, **fields}


def drop(name: str) -> Callable[[Line], Any]:
    return lambda line: {key: value for key, value in line.items() if key != name}


def ask(content: Any) -> Callable[[Line], Any]:
    return lambda line: {**line, "messages": [{"role": "user", "content": content}, line["messages"][-1]]}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda line: [line], "expected a JSON object with id, domain, messages"),
        (drop("id"), r"line 2: no field 'id'.*expected id, domain, messages; add it"),
        (drop("domain"), r"line 2, id 'bad': no field 'domain'"),
        (drop("messages"), r"line 2, id 'bad': no field 'messages'"),
        (change(id=7), "id is 7; expected a str"),
        (change(domain=""), "domain is ''; expected a str that is not empty"),
        (change(messages="hi"), "messages is 'hi'; expected a list"),
        (change(messages=["hi"]), "message 0 is 'hi'; expected an object"),
        (change(answer="2"), "unknown field 'answer'; expected id, domain, messages, tier, source"),
        (change(id="good"), r"line 2: id 'good' is that of line 1 too"),
        (change(messages=[{"role": "user", "content": "q"}]), r"the roles are \['user'\]"),
        (change(messages=[{"role": "assistant", "content": "a"}]), r"the roles are \['assistant'\]"),
        (
            change(messages=[{"role": "robot", "content": "q"}]),
            "message 0: role 'robot'; expected one of system, user, assistant",
        ),
        (ask([{"type": "text"}]), "content part"),
        (ask([{"type": "image", "image": 3}]), "the image is 3; expected a path"),
        (ask([{"type": "video", "video": []}]), r"the video is \[\]; expected a path"),
        (ask(shown("gone.png", "q")), r"image 'gone.png' is missing, expected .*gone.png; add it, or mend the path"),
        (ask([{"type": "video", "video": ["a.png", "gone.png"]}]), "video 'gone.png' is missing"),
        (
            change(messages=[{"role": "user", "content": "q"}, {"role": "assistant", "content": shown("a.png", "x")}]),
            "media in an assistant's turn",
        ),
    ],
)
def test_a_line_that_is_no_example_is_an_error_with_file_line_id_and_mend(
    write: Write, broken: Callable[[Line], Any], message: str
) -> None:
    path = write([example("good"), broken(example("bad"))])
    with pytest.raises(DataError, match=message) as caught:
        load_examples(path)
    assert str(caught.value).startswith(f"{path}, line 2")


@pytest.mark.parametrize("line", [b'{"id": "x"', b"\xff\xfe{}"])
def test_a_line_that_is_not_json_is_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_bytes(json.dumps(example("good")).encode() + b"\n\n" + line + b"\n")
    with pytest.raises(DataError, match=r"line 3: .*expected one JSON object; mend or delete the line"):
        load_examples(path)


def test_a_good_file_loads_in_order_with_what_each_example_is(write: Write, lines: list[Line], root: Path) -> None:
    loaded = load_examples(write([{**lines[0], "tier": "level-1", "source": "rlcs tasks"}, *lines[1:]]))
    assert [one.id for one in loaded.examples] == ["m0", "o0", "m1", "o1", "m2", "o2"]
    assert [one.domain for one in loaded.examples] == ["math", "ocr"] * 3
    assert [one.thinks for one in loaded.examples] == [True, True, True, True, False, True]
    assert loaded.examples[0].messages == lines[0]["messages"] and loaded.examples[0].root == root
    assert loaded.rejected == {}


def respond(id: str, response: str, question: str = "q") -> Line:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": response}]
    return {"id": id, "domain": "math", "messages": messages}


def test_responses_that_break_the_format_are_rejected_and_counted_by_reason(write: Write) -> None:
    box = "<|begin_of_box|>2<|end_of_box|>"
    rows = [
        example("good"),
        respond("a", box),
        respond("b", f"<think>x{box}</think>\n{box}"),
        respond("c", "<think>x</think>\n2"),
        respond("d", f"<think>x</think>\n{box}{box}"),
        respond("e", "<think>y</think>\ntwo"),
        respond("f", f"<think>x</think>\n{box}", "q/nothink"),
        respond("g", f"<think></think>\n{box}", "q/nothink"),
    ]
    loaded = load_examples(write(rows))
    assert [one.id for one in loaded.examples] == ["good", "g"]
    expected = {"no-think": 1, "box-in-think": 1, "no-box": 2, "two-boxes": 1, "thought-after-nothink": 1}
    assert loaded.rejected == expected
    assert loaded.rejected_ids["no-box"] == ["c", "e"]


def test_the_style_decides_what_is_well_formed(write: Write) -> None:
    path = write([example("box"), respond("answer", "<think>x</think><answer>2</answer>")])
    assert [one.id for one in load_examples(path, style="box").examples] == ["box"]
    assert [one.id for one in load_examples(path, style="answer").examples] == ["answer"]


def test_a_file_of_which_nothing_is_left_is_an_error(write: Write) -> None:
    with pytest.raises(DataError, match=r"no example is left to train on \(1 no-think\)"):
        load_examples(write([respond("a", "2")]))
    with pytest.raises(DataError, match="the file has no line"):
        load_examples(write([]))


def test_the_non_thinking_form_switches_every_user_turn_and_keeps_the_answer_part() -> None:
    answer = "So it is\n\n<|begin_of_box|>4<|end_of_box|> indeed"
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "<think>h</think>\n2"},
        {"role": "user", "content": shown("a.png", "and twice/nothink")},
        {"role": "user", "content": [{"type": "image", "image": "a.png"}]},
        {"role": "assistant", "content": f"<think>t</think>\n{answer}"},
    ]
    rewritten = as_nothink(messages)
    assert rewritten[:3] == [messages[0], {"role": "user", "content": "1+1/nothink"}, messages[2]]
    assert rewritten[3] == messages[3]
    assert rewritten[4]["content"] == [{"type": "image", "image": "a.png"}, {"type": "text", "text": "/nothink"}]
    assert rewritten[5] == {"role": "assistant", "content": f"<think></think>\n{answer}"}
    assert as_nothink(rewritten) == rewritten


def test_the_non_thinking_form_is_a_non_thinking_prompt_and_the_answer(renderer: ChatRenderer, root: Path) -> None:
    messages = example("x", shown("a.png", "read"), think="t", answer="AB")["messages"]
    prompt = renderer.prompt(messages[:1], root=root, thinking=False).encoded.input_ids
    ids = renderer.example(as_nothink(messages), root=root).input_ids
    assert ids[: len(prompt)].tolist() == prompt.tolist()
    assert renderer.decode(ids[len(prompt) :]) == "<|begin_of_box|>AB<|end_of_box|><|user|>"


def test_the_digest_changes_with_content_and_order(write: Write, lines: list[Line]) -> None:
    def digest_of(rows: list[Line]) -> str:
        return digest(fingerprints(lines_of(load_examples(write(rows)).examples)))

    found = {digest_of(rows) for rows in (lines, lines[::-1], lines[1:], [*lines[:-1], example("o2")])}
    assert len(found) == 4
    assert digest_of(lines) in found
