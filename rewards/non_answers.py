"""Texts that answer nothing, found by rule so that no judge is asked to be strong about them.

What a policy writes for a judge's sake: nothing, "I don't know", the question again, an opening phrase without a
continuation ("Let's solve this step by step": arXiv 2507.08794 found such texts paid by most judges), or instructions
to the judge. Each finding asks for the reference (and the question) not to be of that kind itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from rewards.plain_text import fold
from rewards.stream_safe import normalise

MAX_SCAN_CHARS = 20_000

_REFUSAL = re.compile(
    r"(?:(?:i am|i'm|we are|sorry|unfortunately)[, ]+|but |i'm afraid )*"
    r"(?:i (?:really |just |honestly )?(?:do not|don't|dont|can't|cannot|can not|am unable to|could not|couldn't) "
    r"(?:know|tell|say|answer|determine|see|help|be sure)|"
    r"(?:not sure|no idea|i have no idea|unknown|unsure|idk|n/?a|none of my business|no answer|cannot answer|can't answer)$|"
    r"(?:it |this |the answer |the question )?(?:cannot|can't|can not) be (?:determined|answered|known)|"
    r"(?:there is )?(?:not enough|insufficient) information|unable to (?:determine|answer)|"
    r"我?(?:真的|确实|也)?(?:不知道|不清楚|不确定|无法(?:确定|回答|判断|得知)|没法回答)|未知$|无可奉告)"
)
_OPENINGS = re.compile(
    r"(?:the )?(?:solution|solution process|thought process|thinking process|reasoning|explanation|result)|step 1|step by step|"
    r"(?:(?:the|my) )?(?:final |correct )?answer(?: is)?|"
    r"(?:okay|ok|sure|well|alright)?[,.!]? ?(?:let's|let us|let me) (?:think|solve|begin|start|see|analyze|work)"
    r"(?: about)?(?: (?:it|this|the|this problem|the problem|that))?(?: out)?(?:,? ?(?:step by step|carefully|slowly))?|"
    r"to solve (?:this|the) problem|okay|ok|sure|here is (?:the|my) (?:answer|solution)|(?:see|as) above|as explained above|"
    r"解|解答|答|答案|(?:最终|正确)?答案(?:是|如下)?|解析|分析|思考过程|解题过程|推理过程|(?:让|请让)?我们?(?:来)?(?:一步一步|一步步|逐步)?"
    r"(?:思考|分析|解决|解答)(?:一下)?(?:这个|该|这道)?(?:问题|题|题目)?|见上|如上(?:所述)?|"
    r"解説|解答過程|答え|respuesta|solución|la respuesta es|réponse|la réponse est|antwort|lösung"
)
_OVERRIDES = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass) (?:(?:all|any|every|of|the|your|my|these|those|and|other) ){0,4}"
    r"(?:(?:previous|prior|above|earlier|preceding|original|system|grading|foregoing|former) ){1,3}"
    r"(?:instructions?|prompts?|rules|guidelines|criteria|text|messages?)\b|"
    r"\b(?:ignore|disregard|forget|override|bypass) (?:all )?(?:the |your )(?:instructions|prompt|reference answer|rubric)\b|"
    r"\b(?:dear|attention|note to(?: the)?|hey|hello)[ ,]{0,3}(?:the )?(?:grader|judge|evaluator|grading (?:model|system))\b|"
    r"(?:忽略|无视|忘记|不要理会)[^。\n]{0,8}(?:以上|上述|之前|前面|先前|系统|评分|所有)[^。\n]{0,8}(?:指令|指示|说明|提示|要求|规则|标准)"
)
_VERDICTS = re.compile(
    r"\b(?:grader|judge|evaluator|grading system)\b[^.\n]{0,20}\b(?:must|should|please|has to|will|output|respond|reply|say)\b"
    r"[^.\n]{0,20}\b(?:yes|correct|right|full|maximum|pass|5)\b|"
    r"\b(?:output|respond|reply|answer|print|return|say)(?: only| just| with)* ?[:\"' ]{1,3}(?:yes|correct|5)\b|"
    r"\b(?:mark|grade|score|rate|accept|treat|count) (?:this|it|me|my|the)\b[^.\n]{0,30}\bas (?:fully |completely )?"
    r"(?:correct|right|true|equivalent)\b|"
    r"\bgive (?:this|it|me|my|the)\b[^.\n]{0,30}\b(?:full (?:marks|score|credit)|maximum score|top score)\b|"
    r"\b(?:this|my|the above|candidate'?s?) (?:answer|response|solution) (?:is|matches|equals|agrees with) "
    r"(?:exactly |fully |completely |with |the same as |equivalent to ){0,3}(?:the )?reference\b|"
    r"(?:评分者|评委|裁判|评判模型|评审)[^。\n]{0,10}(?:请|必须|应该|应当|输出|判定)|"
    r"(?:请|直接|只需|必须)你?(?:输出|回复|判定为|判为|给出)[^。\n]{0,4}(?:yes|是|正确|满分|5)|"
    r"(?:判定|认定)(?:本|此|该|这个)?(?:答案|回答)?为(?:正确|满分)"
)
_MARKERS = re.compile(
    r"<\|[^<>|\n]{0,40}\|>|\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|"
    r"(?:^|\n)#{2,4} ?(?:system|instruction|human|assistant)\b"
)


def non_answer(answer: str, question: str | None, references: Sequence[str], *, prose: bool = False) -> str | None:
    """Why `answer` answers nothing, or None: `empty-answer`, `no-answer`, `restates-question`, `addresses-judge`.

    `prose`: a long text may speak of grading and of saying yes; only plain attempts to override the prompt count.
    """
    answer = answer[:MAX_SCAN_CHARS]
    if not any(_says_something(char) for char in answer):
        return "empty-answer"
    folded, known = fold(answer), [fold(reference[:MAX_SCAN_CHARS]) for reference in references]
    if _OPENINGS.fullmatch(folded) or (_refuses(folded) and not any(_refuses(reference) for reference in known)):
        return "no-answer"
    if question is not None and restates(folded, answer.rstrip().endswith(("?", "？")), fold(question[:MAX_SCAN_CHARS])):
        return "restates-question"
    if addresses_judge(answer, prose=prose) and not addresses_judge("\n".join([question or "", *references])):
        return "addresses-judge"
    return None


def addresses_judge(text: str, *, prose: bool = False) -> bool:
    """Whether `text` gives orders to whoever judges it, or carries markers of a chat template."""
    text = normalise("NFKC", text[:MAX_SCAN_CHARS])
    text = "".join(char for char in text if unicodedata.category(char) != "Cf").casefold()
    found = _OVERRIDES.search(text) or _MARKERS.search(text) or (None if prose else _VERDICTS.search(text))
    return found is not None


def _says_something(char: str) -> bool:
    """Letters, digits and symbols do ("∞", "+"); punctuation, white space and invisible characters do not."""
    return unicodedata.category(char)[0] in "LNS"


def _refuses(folded: str) -> bool:
    return len(folded) <= 200 and _REFUSAL.match(folded) is not None


def _letters(folded: str) -> str:
    return "".join(char for char in folded if char.isalnum())


_ANNOUNCES_QUESTION = frozenset(
    ("", "question", "thequestionis", "thequestionasks", "theproblemis", "theanswertothequestion", "问题", "问题是", "题目是")
)


def restates(answer: str, asks: bool, question: str) -> bool:
    """Whether the answer is the question: most of it, a question out of it, or all of it, once or more, with nothing added.

    Both are folded; `asks`: the answer ends in a question mark. An option or a phrase out of the question may be its
    answer; word order counts ("The sky is blue" answers "Is the sky blue?").
    """
    ours, theirs = _letters(answer), _letters(question)
    if len(ours) < 8 or len(theirs) < 8:
        return ours == theirs
    if ours in theirs:
        return asks or len(ours) >= 0.8 * len(theirs)
    return theirs in ours and ours.replace(theirs, "") in _ANNOUNCES_QUESTION
