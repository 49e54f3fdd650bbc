"""The one place that turns chat messages into model inputs, for training and for rollouts alike.

Works with a processor of GLM-4V's kind, or (images only) Qwen3-VL's, and with a text-only tokenizer that has a chat
template. The checkpoint's own template lays out the conversation; this module keeps untrusted text from becoming special
tokens, marks the tokens that carry loss, puts the media in and computes M-RoPE positions. Axis suffix: T tokens.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoProcessor, AutoTokenizer

from rollout.budget import BudgetTokens
from rollout.encoded import Encoded, Prompt
from rollout.media import Media, MediaError, MediaLoader
from rollout.messages import Message, check_messages, parts_of, text_of
from rollout.positions import mrope_positions
from rollout.special_tokens import ASSISTANT_TOKENS, SpecialTokens

__all__ = ["ChatRenderer", "Encoded", "Media", "MediaError", "Prompt"]

_EMPTY_THOUGHT = re.compile(r"\s*<think>\s*</think>")


class ChatRenderer:
    """Renders messages through the chat template of `processor` (a multimodal processor or a tokenizer).

    What carries loss in `example`: of every assistant turn, exactly the tokens a policy would generate. That is the
    text the template keeps (the thought of the last turn; the thoughts of earlier turns are dropped by GLM's template)
    and the token that ends the turn. An empty thought that the prompt prefills is given, not generated, and carries
    none.
    """

    def __init__(self, processor: Any, *, cache_bytes: int = 256 << 20) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.special = SpecialTokens(self.tokenizer)
        self._template = getattr(processor, "chat_template", None) or self.tokenizer.chat_template
        if not self._template:
            raise ValueError("the checkpoint has no chat template; save one with its tokenizer or processor")
        self._loader = MediaLoader(processor, cache_bytes=cache_bytes) if hasattr(processor, "image_processor") else None
        self._header, thinking_prefill = self._generation_prompt(thinking=True)
        _, nothink_prefill = self._generation_prompt(thinking=False)
        self._prefill = {True: thinking_prefill, False: nothink_prefill}
        self._prefills = sorted(filter(None, self._prefill.values()), key=len, reverse=True)
        self.stop_ids = self.special.stop_ids
        self._placeholders = self._placeholder_ids()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "ChatRenderer":
        """The renderer of a Hugging Face checkpoint directory."""
        multimodal = getattr(AutoConfig.from_pretrained(path), "vision_config", None) is not None
        return cls((AutoProcessor if multimodal else AutoTokenizer).from_pretrained(path))

    def prompt(self, messages: Sequence[Message], *, root: Path, thinking: bool, id: str = "") -> Prompt:
        """The model input for a response to `messages`, whose media paths are relative to `root`.

        `thinking` False appends `/nothink` to user turns and prefills the empty thought, where the template knows how.
        Raises ValueError (MediaError for media) naming `id`, what was found and what was expected.
        """
        self._check(messages, id)
        if messages[-1]["role"] == "assistant":
            raise ValueError(f"{_name(id)}the last message is the assistant's; a prompt ends with the user's turn")
        text = self._render(self._clean(messages, nothink=not thinking), thinking=thinking, generation=True)
        ids, _ = self._tokenize(text)
        encoded = self._encode(ids, np.zeros(len(ids), bool), self._load_media(messages, root, id), id)
        return Prompt(encoded, self._prefill[thinking], thinking, id)

    def example(self, messages: Sequence[Message], *, root: Path, id: str = "") -> Encoded:
        """A whole conversation with its loss mask, ended by the end-of-turn token. Errors as `prompt`.

        An example whose last assistant turn opens with the prefilled empty thought and whose user turns end in
        `/nothink` has the tokens of `prompt(..., thinking=False)` followed by the answer's; any other those of the
        thinking prompt.
        """
        self._check(messages, id)
        if messages[-1]["role"] != "assistant":
            raise ValueError(
                f"{_name(id)}the last message is the {messages[-1]['role']}'s; an example ends with the assistant's"
            )
        nothink = _EMPTY_THOUGHT.match(text_of(messages[-1])) is not None
        text = self._render(self._clean(messages, nothink=nothink), thinking=None, generation=False)
        turns = sum(message["role"] == "assistant" for message in messages)
        if text.count(self._header) != turns:
            raise ValueError(
                f"{_name(id)}the chat template wrote {text.count(self._header)} assistant headers {self._header!r}, "
                f"expected {turns}"
            )
        ids, loss = self._tokenize(text, end_last_turn=True)
        return self._encode(ids, loss, self._load_media(messages, root, id), id)

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        """Text of tokens, special tokens such as the box tokens kept."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def token_id(self, token: str) -> int | None:
        """Id of a token that the vocabulary holds as one special token, else None."""
        return self.special.id_of.get(token)

    def budget_tokens(self) -> BudgetTokens:
        """What a thinking budget works with. Raises ValueError where <think> and </think> are not single tokens."""
        open_id, close_id = self.token_id("<think>"), self.token_id("</think>")
        if open_id is None or close_id is None:
            raise ValueError("a thinking budget needs <think> and </think> as single tokens; add them to the tokenizer")
        return BudgetTokens(open_id, close_id, tuple(self.special.encode("</think>\n")), self.special.end_of_turn_id)

    @property
    def image_token_id(self) -> int | None:
        """The token that stands for a patch of an image or of a video's frame; None for a text-only model."""
        return self._placeholders.get("image")

    def suppressed_ids(self, vocabulary: int) -> np.ndarray:
        """Ids (int64) a policy must never emit: media placeholders, which would ask for pixels, and unused rows of the
        head.
        """
        return np.array([*self._media_ids().values(), *range(len(self.tokenizer), vocabulary)], np.int64)

    def _check(self, messages: Sequence[Message], id: str) -> None:
        taken = {*self._placeholders, "video"} if self._placeholders else set[str]()
        check_messages(messages, media=taken, name=_name(id))
        if "video" not in self._placeholders and any(part["type"] == "video" for one in messages for part in parts_of(one)):
            raise ValueError(
                f"{_name(id)}a video, but of this checkpoint's layout (its time stamps are not GLM-4V's) only images are "
                "rendered; give the frames as images"
            )

    def _generation_prompt(self, *, thinking: bool) -> tuple[str, str]:
        """What the template appends to ask for a response: (assistant header, prefilled start of the response)."""
        probe = [{"role": "user", "content": "x"}]
        base = self._render(probe, thinking=thinking, generation=False)
        whole = self._render(probe, thinking=thinking, generation=True)
        appended = whole.removeprefix(base)
        at = appended.find("<think>")
        header, prefill = (appended, "") if at < 0 else (appended[:at], appended[at:])
        if not whole.startswith(base) or not any(token in header for token in self.special.id_of):
            raise ValueError(
                f"the chat template asks for a response with {appended!r}; expected an assistant header that holds a "
                "special token, so that user text cannot forge one"
            )
        return header, prefill

    def _render(self, messages: Sequence[Message], *, thinking: bool | None, generation: bool) -> str:
        switch = {} if thinking is None else {"enable_thinking": thinking}
        return self.tokenizer.apply_chat_template(
            list(messages), chat_template=self._template, tokenize=False, add_generation_prompt=generation, **switch
        )

    def _media_ids(self) -> dict[str, int]:
        """The checkpoint's placeholders of images and videos, rendered here or not; none for a text-only one."""
        if self._loader is None:
            return {}
        tokens = {
            "image": getattr(self.processor, "image_token", None) or "<|image|>",
            "video": getattr(self.processor, "video_token", None) or "<|video|>",
        }
        return {kind: self.special.id_of[token] for kind, token in tokens.items() if token in self.special.id_of}

    def _placeholder_ids(self) -> dict[str, int]:
        """The token that stands for each kind of media that is rendered here."""
        ids = self._media_ids()
        if "image" not in ids:
            return {}
        framed = "<|begin_of_video|>" in self.special.id_of  # frames with time stamps between them, GLM-4V's layout
        return ids if framed else {"image": ids["image"]}

    def _clean(self, messages: Sequence[Message], *, nothink: bool) -> list[dict[str, Any]]:
        """Messages for the template: untrusted special tokens broken up, media reduced to their type, adjacent text
        joined.
        """
        cleaned: list[dict[str, Any]] = []
        for message in messages:
            allowed = ASSISTANT_TOKENS if message["role"] == "assistant" else frozenset[str]()
            parts = parts_of(message)
            content: list[dict[str, str]] = []
            for index, part in enumerate(parts):
                ends_turn = nothink and message["role"] == "user" and index == len(parts) - 1
                if part["type"] == "text":
                    text = self.special.defuse(part["text"], allowed, keep_nothink=ends_turn)
                    content.append({"type": "text", "text": text})
                else:
                    content.append({"type": part["type"]})
            plain = len(content) == 1 and content[0]["type"] == "text"
            cleaned.append({"role": message["role"], "content": content[0]["text"] if plain else content})
        return cleaned

    def _tokenize(self, rendered: str, *, end_last_turn: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Tokens int64 [T] of a rendered conversation and which of them an assistant generates, bool [T].

        Tokenised in pieces cut after each assistant header and prefill, so that a prompt's tokens are a prefix of an
        example's whatever the response begins with. `end_last_turn` appends the end-of-turn token where the template,
        like GLM's, leaves it to the next turn's role marker.
        """
        first, *turns = rendered.split(self._header)
        ids = self.special.encode(first + self._header if turns else first)
        loss = [False] * len(ids)
        for index, turn in enumerate(turns):
            last = index == len(turns) - 1
            given = next((prefill for prefill in self._prefills if turn.startswith(prefill)), "")
            piece = self.special.encode(turn[len(given) :] + ("" if last else self._header))
            if last and end_last_turn and not np.isin(piece, self.special.structural_ids).any():
                piece.append(self.special.end_of_turn_id)
            ends = np.flatnonzero(np.isin(piece, self.special.structural_ids))
            generated = len(piece) if not len(ends) else int(ends[0]) + int(piece[ends[0]] in self.stop_ids)
            prefill = self.special.encode(given)
            ids += prefill + piece
            loss += [False] * len(prefill) + [True] * generated + [False] * (len(piece) - generated)
        return np.array(ids, np.int64), np.array(loss, bool)

    def _load_media(self, messages: Sequence[Message], root: Path, id: str) -> list[Media]:
        media = []
        try:
            for part in (part for message in messages for part in parts_of(message) if part["type"] != "text"):
                assert self._loader is not None  # check_messages refused media for a text-only model
                if part["type"] == "image":
                    media.append(self._loader.image(root / part["image"]))
                else:
                    video = part["video"]
                    source = root / video if isinstance(video, str | Path) else [root / frame for frame in video]
                    media.append(self._loader.video(source, fps=part.get("fps")))
        except MediaError as error:
            raise MediaError(f"{_name(id)}{error}") from error
        return media

    def _encode(self, ids: np.ndarray, loss: np.ndarray, media: list[Media], id: str) -> Encoded:
        """Expands each media placeholder to its visual tokens (and a video's time stamps) and computes positions."""
        places = np.flatnonzero(np.isin(ids, list(self._placeholders.values())))
        if len(places) != len(media):
            raise ValueError(f"{_name(id)}the template placed {len(places)} media, the messages hold {len(media)}")
        merge = self.processor.image_processor.merge_size if media else 1
        runs, masks, cursor = [], [], 0
        for place, item in zip(places.tolist(), media, strict=True):
            visual = self._visual_tokens(item, merge)
            runs += [ids[cursor:place], visual]
            masks += [loss[cursor:place], np.zeros(len(visual), bool)]
            cursor = place + 1
        ids, loss = np.concatenate([*runs, ids[cursor:]]), np.concatenate([*masks, loss[cursor:]])
        grids = [tuple(int(x) for x in item.grid_thw) for item in media]
        positions = mrope_positions(ids, grids, image_token_id=self._placeholders.get("image"), merge_size=merge)
        return Encoded(ids, positions, loss, tuple(media))

    def _visual_tokens(self, media: Media, merge: int) -> np.ndarray:
        t, h, w = (int(x) for x in media.grid_thw)
        tokens = np.full(h * w // merge**2, self._placeholders["image"], np.int64)
        if media.kind == "image":
            return np.tile(tokens, t)
        begin, end = self.special.id_of["<|begin_of_image|>"], self.special.id_of["<|end_of_image|>"]
        stamps = [self.special.encode(str(second)) for second in media.seconds]
        return np.concatenate([part for stamp in stamps for part in ([begin], tokens, [end], stamp)]).astype(np.int64)


def _name(id: str) -> str:
    return f"{id}: " if id else ""
