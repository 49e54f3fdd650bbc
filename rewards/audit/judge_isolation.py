"""Whether a candidate can leave its block of a judge's prompt, found by rendering the prompt; no server is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.judge_prompt import equivalence_messages, rating_messages

_DELIMITER = re.compile(r"<<(QUESTION|CRITERIA|REFERENCE|CANDIDATE|END) ([0-9a-f]{16})>>")
_CHAT_TOKEN = re.compile(r"<[|｜][^<>\n]{0,64}[|｜]>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?think>")
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def breach(question: str | None, references: Sequence[str], candidate: str) -> str | None:
    """How `candidate` gets out of its block in either prompt a judge is asked with, or None.

    Checked: the system message holds nothing of the candidate; each block opens and closes once, with one nonce that the
    candidate cannot have known; every line of a block starts with its bar; outside the blocks stands only what stands
    there for a harmless candidate; no token of a chat template and no character that cannot be seen is left.
    """
    for messages_of in (equivalence_messages, rating_messages):
        one = messages_of(question, references, candidate, None, 6000)
        harmless = messages_of(question, references, "x", None, 6000)
        if [message["role"] for message in one] != ["system", "user"]:
            return "roles"
        user, nonces = one[1]["content"], {nonce for _, nonce in _DELIMITER.findall(one[1]["content"])}
        if len(nonces) != 1:
            return "nonces"
        nonce = nonces.pop()
        if nonce in candidate:
            return "nonce-known"
        if _without_nonce(one[0]["content"], nonce) != _without_nonce(harmless[0]["content"]):
            return "system-message"
        if _outline(user) != _outline(harmless[1]["content"]):
            return "outside-block"
        if _CHAT_TOKEN.search(user):
            return "chat-token"
        if _UNSEEN.search(user):
            return "unseen-character"
    return None


def _without_nonce(text: str, nonce: str | None = None) -> str:
    return re.sub(r"[0-9a-f]{16}" if nonce is None else nonce, "NONCE", text)


def _outline(user: str) -> list[str]:
    """The lines that are no block's content, nonces aside: those a judge reads as its own instructions."""
    lines = [_DELIMITER.sub(r"<<\1>>", line) for line in user.split("\n") if not line.startswith("| ")]
    return [line for line in lines if line]
