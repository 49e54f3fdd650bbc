"""Special tokens of a tokenizer: which exist, which end a turn, and how untrusted text is kept from forging them."""

import re
from typing import Any

import numpy as np

NOTHINK = "/nothink"
ASSISTANT_TOKENS = frozenset(
    {"<think>", "</think>", "<answer>", "</answer>", "<|begin_of_box|>", "<|end_of_box|>"}
)  # what an assistant's own text may hold as special tokens
_TURN_ENDS = ("<|user|>", "<|observation|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>")
_BREAK = "\ufdd0"  # a Unicode noncharacter: reserved for internal use, never part of interchanged text


class SpecialTokens:
    """Special tokens of `tokenizer`: every added token that is marked special, or written like a tag or `/nothink`.

    id_of: text to id. stop_ids: tokens that end an assistant's turn. end_of_turn_id: the one that training appends (GLM
    ends a turn by the next role marker, `<|user|>`). structural_ids: all that cannot be part of an assistant's text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.id_of = {
            token.content: id
            for id, token in tokenizer.added_tokens_decoder.items()
            if token.special or token.content == NOTHINK or re.fullmatch(r"<.+>", token.content)
        }
        ends = [self.id_of[token] for token in _TURN_ENDS if token in self.id_of]
        eos = tokenizer.eos_token_id
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([*ends, *([] if eos is None else [eos])]))
        if not self.stop_ids:
            raise ValueError("the tokenizer has no end-of-turn token; set its eos_token")
        self.end_of_turn_id = self.id_of.get("<|user|>", self.stop_ids[0] if eos is None else eos)
        self.structural_ids = np.array([id for token, id in self.id_of.items() if token not in ASSISTANT_TOKENS])
        self._forgeable = {allowed: self._pattern(allowed) for allowed in (frozenset[str](), ASSISTANT_TOKENS)}

    def defuse(self, text: str, allowed: frozenset[str] = frozenset(), *, keep_nothink: bool = False) -> str:
        """Breaks up every special token in `text` that is not `allowed`, so that `encode` reads it as plain text.

        `keep_nothink` spares a `/nothink` at the end, where it is the switch and not content.
        """
        text = text.replace(_BREAK, "\N{REPLACEMENT CHARACTER}")
        tail = NOTHINK if keep_nothink and NOTHINK in self.id_of and text.endswith(NOTHINK) else ""
        pattern = self._forgeable.get(allowed) or self._pattern(allowed)
        return pattern.sub(rf"\1{_BREAK}", text.removesuffix(tail)) + tail

    def _pattern(self, allowed: frozenset[str]) -> re.Pattern[str]:
        """Matches the first character of every special token not allowed; a lookahead, since tokens may overlap."""
        tokens = [re.escape(token) for token in self.id_of if token not in allowed]
        return re.compile(rf"(?=(?:{'|'.join(tokens)}))(.)" if tokens else r"(?!)()", flags=re.DOTALL)

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text. Defused tokens come out as plain text; nothing is added at the ends."""
        pieces = [piece for piece in text.split(_BREAK) if piece]
        return [id for ids in self._tokenizer(pieces, add_special_tokens=False).input_ids for id in ids] if pieces else []
