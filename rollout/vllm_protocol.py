"""What a run and the server of its policy say to each other over HTTP: `vllm_client` and `vllm_server` share this.

    GET  /health          what is served: Health, as JSON
    POST /generate        a Call, as safetensors bytes -> JSON lines: groups as they finish, empty lines meanwhile
    POST /update_weights  parameters as safetensors bytes, or JSON that names a file; version and stamp in the query
    POST /sleep, /wake

Tokens, pixels and weights are binary and never pickled: neither side runs anything the other sends.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from rollout.chat import ChatRenderer
from rollout.encoded import Encoded, Prompt
from rollout.engine import Completion, SamplingParams, ThinkingBudget
from rollout.media import Media
from rollout.tensor_stream import tensor_stream

PROTOCOL = 1
"""Raised whenever an older client would be misunderstood."""
KEY_VARIABLE = "RLCS_SERVER_KEY"
"""Environment variable of both sides: what the client must present. Not a setting, which would be saved with the run."""
HEARTBEAT_S = 5.0
"""Seconds after which an answer without news has an empty line."""
BINARY, LINES = "application/octet-stream", "application/x-ndjson"
FRESH = "checkpoint"
"""Stamp of the weights that a server starts with."""

_KINDS = {"int32", "float32", "bool"}


@dataclass(frozen=True)
class Health:
    """What a server serves. `stamp` names the weights: the random text that came with their update; `boot` the process."""

    protocol: int
    model: str
    weight_version: int
    stamp: str
    boot: str
    longest: int
    vocabulary: str


@dataclass(frozen=True, eq=False)
class Call:
    """`n` completions of each prompt, wanted of the weights that `stamp` names. One budget and one seed a prompt."""

    prompts: list[Prompt]
    n: int
    sampling: SamplingParams
    budgets: list[ThinkingBudget]
    seeds: list[int]
    stamp: str

    def pieces(self) -> tuple[int, Iterator[bytes]]:
        """(length, pieces) of the request's body. Each image goes once, whatever the number of prompts that show it."""
        tensors: dict[str, torch.Tensor] = {}
        media: dict[str, dict[str, Any]] = {}
        prompts = []
        for index, (prompt, budget, seed) in enumerate(zip(self.prompts, self.budgets, self.seeds, strict=True)):
            tensors[f"ids.{index}"] = torch.from_numpy(prompt.encoded.input_ids)
            for item in prompt.encoded.media:
                tensors[f"pixels.{item.key}"] = torch.from_numpy(item.pixel_values)
                media[item.key] = {"kind": item.kind, "grid_thw": item.grid_thw.tolist(), "seconds": item.seconds}
            shown = {"media": [item.key for item in prompt.encoded.media], "budget": asdict(budget), "seed": seed}
            prompts.append({"id": prompt.id, "prefill": prompt.prefill, "thinking": prompt.thinking, **shown})
        call = {"n": self.n, "sampling": asdict(self.sampling), "prompts": prompts, "media": media, "stamp": self.stamp}
        return tensor_stream(list(tensors.items()), {"call": json.dumps(call)})

    @classmethod
    def read(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> "Call":
        """The call of a request's body. Raises ValueError for one that is not understood."""
        try:
            call = json.loads(metadata["call"])
            media = {
                key: Media(
                    tensors[f"pixels.{key}"].numpy(),
                    np.array(item["grid_thw"], np.int64),
                    key,
                    item["kind"],
                    tuple(item["seconds"]),
                )
                for key, item in call["media"].items()
            }
            prompts = [
                Prompt(
                    _encoded(tensors[f"ids.{index}"].numpy(), tuple(media[key] for key in item["media"])),
                    item["prefill"],
                    item["thinking"],
                    item["id"],
                )
                for index, item in enumerate(call["prompts"])
            ]
            return cls(
                prompts,
                call["n"],
                SamplingParams(**{name: _frozen(value) for name, value in call["sampling"].items()}),
                [ThinkingBudget(**item["budget"]) for item in call["prompts"]],
                [item["seed"] for item in call["prompts"]],
                call["stamp"],
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"not a call of this version ({error!r}); install the same rlcs on both sides") from error


def group_line(index: int, group: list[Completion]) -> bytes:
    """A finished group as a line of the answer; `index` is its prompt's place in the call."""
    completions = [
        {field.name: _packed(getattr(completion, field.name)) for field in fields(Completion)} for completion in group
    ]
    return json.dumps({"index": index, "completions": completions}).encode() + b"\n"


def read_group(line: Mapping[str, Any]) -> tuple[int, list[Completion]]:
    """The inverse of `group_line`, after the JSON is read. Arrays are equal bit for bit."""
    groups = [
        Completion(**{name: _unpacked(value) for name, value in completion.items()}) for completion in line["completions"]
    ]
    return line["index"], groups


def vocabulary_digest(renderer: ChatRenderer) -> str:
    """Equal for renderers whose tokens mean the same: SHA-256 of the vocabulary, the stop tokens and the image token."""
    words = sorted(renderer.tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps([words, sorted(renderer.stop_ids), renderer.image_token_id]).encode()).hexdigest()


def _encoded(ids_T: np.ndarray, media: tuple[Media, ...]) -> Encoded:
    """A prompt as an engine takes it. Positions and loss mask stay with the trainer: vLLM computes positions itself."""
    return Encoded(ids_T, np.zeros((3, len(ids_T)), np.int64), np.zeros(len(ids_T), bool), media)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _packed(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return {"dtype": str(value.dtype), "base64": base64.b64encode(value.tobytes()).decode()}


def _unpacked(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value["dtype"] not in _KINDS:
        raise ValueError(f"an array of {value['dtype']}; expected one of {', '.join(sorted(_KINDS))}")
    return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"]).copy()
