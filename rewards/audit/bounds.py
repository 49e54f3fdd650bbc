"""What an answer may honestly earn where scores are graded, by sums that bound the verifier's own from above.

They are counted without the verifier's code: shared characters over the longer length bound any edit similarity, shared
area over the larger area any intersection over union.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from rewards.audit.probes import Exemplar

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_CLOCK = re.compile(r"(\d\d):(\d\d)")
_NODES = re.compile(r"<(?:body|table|thead|tbody|tr|td|th)\b", re.IGNORECASE)
_COMMENT = re.compile("<!--.*?-->", re.DOTALL)
_BRACES = re.compile("[{}]")
_CELLS = re.compile(r"<t[dh]\b", re.IGNORECASE)

_GRADED_TEXT = ("ocr", "document")


@lru_cache(maxsize=8192)
def shared_characters(answer: str, reference: str) -> float:
    """Characters in common / longer length, letter case aside: at least 1 - edit distance / longer length.

    The order of the characters is not seen by it, so it bounds a similarity and does not estimate it. White space may
    count or not: the larger of both.
    """
    one, other = (unicodedata.normalize("NFC", text).casefold().split() for text in (answer, reference))
    return max(_shared(joint.join(one), joint.join(other)) for joint in ("", " "))


def _shared(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    return (Counter(one) & Counter(other)).total() / longer if longer else 0.0


def bound(found: Exemplar, answer: str) -> float:
    """The most that `answer` may earn as an answer to this exemplar."""
    if found.verifier in _GRADED_TEXT:
        return max(found.floor, _text_bound(found, answer))
    if found.verifier == "gui" and isinstance(found.reference, str):
        return max(found.floor, _typed_bound(found, answer))
    if found.verifier == "video":
        given = pairs(numbers(answer))  # "between 0 and 1000" is a span as well
        return max(found.floor, overlap(given, spans(found)) if len(given) == 1 else 0.0)
    if found.verifier == "grounding":
        wanted, given_boxes = len(boxes(found)), len(numbers(answer)) // 4
        return max(found.floor, wanted / given_boxes if given_boxes > wanted else 0.0)
    if found.verifier == "table":
        # One table too small; where there are two, none counts.
        shown = _COMMENT.sub("", answer)
        return max(found.floor, size_share(shown, found.right) if shown.casefold().count("<table") == 1 else 0.0)
    if found.verifier == "geo":
        return max(found.floor, _place_bound(found, answer))
    return found.floor


def _place_bound(found: Exemplar, answer: str) -> float:
    """An answer that ends in the right country may earn its weight, one that ends in region and country the region's."""
    given, wanted = ([part.strip().casefold() for part in re.split("[,，]", text)] for text in (answer, found.right))
    if len(wanted) > 2 and given[-2:] == wanted[-2:]:
        return 0.6
    return 0.3 if len(wanted) > 1 and given[-1] == wanted[-1] else 0.0


def _text_bound(found: Exemplar, answer: str) -> float:
    references = found.reference if isinstance(found.reference, list) else [found.reference]
    if found.args.get("reference") == "all":
        given = [part for part in re.split(r"[,，\n]", answer) if part.strip()]
        best = sum(max((shared_characters(part, str(span)) for part in given), default=0.0) for span in references)
        return best / max(len(given), len(references))
    if found.args.get("mode") == "wer":
        one, other = Counter(answer.casefold().split()), Counter(str(found.reference).casefold().split())
        return (one & other).total() / max(1, other.total())
    best = max(shared_characters(answer, str(reference)) for reference in references)
    if found.args.get("formula"):  # braces around one character do not count
        best = max(best, shared_characters(_BRACES.sub("", answer), _BRACES.sub("", str(found.reference))))
    threshold = float(found.args.get("threshold", 0.5)) if found.verifier == "document" else 0.0
    return best if best >= threshold else 0.0


def _typed_bound(found: Exemplar, answer: str) -> float:
    """A text to be typed may be half right; nothing else of an action is, for the cheats tried here."""
    return shared_characters(answer, found.reference) if "text" in found.reference or "content" in found.reference else 0.0


def numbers(text: str) -> list[float]:
    """The numbers in a text, in order."""
    return [float(number) for number in _NUMBER.findall(text)]


def boxes(found: Exemplar) -> list[tuple[float, float, float, float]]:
    """The boxes of an exemplar's right answer: its numbers, four by four."""
    given = numbers(found.right)
    return [(given[at], given[at + 1], given[at + 2], given[at + 3]) for at in range(0, len(given) - 3, 4)]


def area(box: tuple[float, float, float, float]) -> float:
    """Width times height."""
    return (box[2] - box[0]) * (box[3] - box[1])


def whole_screen_share(found: Exemplar) -> float:
    """What the box of the whole screen earns of a grounding reference: its IoU with the largest box, or nothing."""
    share = max(map(area, boxes(found)), default=0.0) / 1e6
    threshold = float(found.args.get("iou", 0.5))
    return share if found.args.get("mode") == "mean_iou" or share > threshold else 0.0


def structure_share(html: str) -> float:
    """What a table earns whose structure is right and whose cells are empty: the nodes of its tree that are no cells."""
    nodes = len(_NODES.findall(html))
    return 1.0 - len(_CELLS.findall(html)) / nodes if nodes else 0.0


def size_share(answer: str, html: str) -> float:
    """Nodes of the smaller table / nodes of the larger: no edit script needs fewer changes than their difference."""
    sizes = sorted((len(_NODES.findall(answer)), len(_NODES.findall(html))))
    return sizes[0] / sizes[1] if sizes[1] else 0.0


def spans(found: Exemplar) -> list[tuple[float, float]]:
    """The spans of a video exemplar, in seconds: its right answer's times or numbers two by two; none of other answers."""
    if isinstance(found.reference, (int, float)):
        return []
    return pairs(
        [60.0 * int(minutes) + int(seconds) for minutes, seconds in _CLOCK.findall(found.right)] or numbers(found.right)
    )


def pairs(values: list[float]) -> list[tuple[float, float]]:
    """Numbers two by two, where the second is the larger."""
    return [(values[at], values[at + 1]) for at in range(0, len(values) - 1, 2) if values[at] < values[at + 1]]


def overlap(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float:
    """The time both sets of spans cover / the time either covers."""
    marks = sorted({mark for span in (*one, *other) for mark in span})
    both = either = 0.0
    for start, end in pairwise(marks):
        within = [any(low <= start and end <= high for low, high in side) for side in (one, other)]
        both += (end - start) * all(within)
        either += (end - start) * any(within)
    return both / either if either else 0.0
