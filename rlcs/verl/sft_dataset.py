"""SFT examples as verl's trainer takes them (`data.custom_cls`): our renderer, our masks, our order of batches.

Axis suffixes: T tokens of an example.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch.utils.data import Dataset

from rlcs.verl.prompts import model_media
from rlcs.verl.sft_loss import FILED
from rollout.chat import ChatRenderer
from sft.config import SftConfig
from sft.data import DataError, Example, load_examples
from sft.rendering import Renderings, check_nothink_form
from sft.rundir import RunDir
from sft.stream import ExampleStream
from sft.train import OVER_LENGTH
from sft.update import Sample


class ExampleDataset(Dataset[dict[str, Any]]):
    """Of the training file: every draw of the run in the order of `sft.stream.ExampleStream`, so that batch k of the dataset is
    batch k of `sft.train.run_sft`. Of the held-out file: each example in every form that it is evaluated in.

    `config`: verl's `data` section; `config.rlcs` is our whole configuration. An item has input_ids, loss_mask, position_ids,
    all int64 [T], what its loss is filed under (`rlcs.verl.sft_loss.FILED`), and the model's media, of which the engine makes
    the positions of M-RoPE. Raises DataError for bad data.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any | None = None,
        max_samples: int = -1,
    ) -> None:
        self.settings = SftConfig.model_validate(OmegaConf.to_container(config.rlcs, resolve=True))
        (file,) = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        path, training = Path(file), Path(file) == self.settings.data
        loaded = load_examples(path, style=self.settings.style)
        self._renderer = ChatRenderer.from_pretrained(self.settings.model)
        if self.settings.nothink_ratio > 0 or not all(example.thinks for example in loaded.examples):
            check_nothink_form(self._renderer)
        self._renderings = Renderings(self._renderer, cache_bytes=self.settings.cache_mb << 20)
        kept, too_long = self._fitting(loaded.examples)
        if not kept:
            raise DataError(f"{path}: no example has at most {self.settings.max_length} tokens; raise max_length")
        rejected = loaded.rejected_ids | ({OVER_LENGTH: too_long} if too_long else {})
        self._record(rejected, "data" if training else "eval_data")
        self.steps = self.settings.total_steps(len(kept))
        self.domains = sorted({example.domain for example in kept})
        """By whose order an item tells its domain; the trainer gives both of its datasets the domains of either."""
        self._draws = self._training_draws(kept) if training else self._forms(kept)

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.item(self.sample(place))

    def sample(self, place: int) -> Sample:
        """The rendered example at this place of the order."""
        example, nothink = self._draws[place]
        return self._renderings.sample(example, nothink=nothink)

    def item(self, sample: Sample) -> dict[str, Any]:
        """A rendered example as tensors."""
        encoded = sample.encoded
        return {
            "input_ids": torch.from_numpy(encoded.input_ids),
            "loss_mask": torch.from_numpy(encoded.loss_mask.astype(np.int64)),
            "position_ids": torch.arange(len(encoded.input_ids)),
            FILED: torch.tensor([self.domains.index(sample.domain), int(sample.nothink)]),
            "multi_modal_inputs": model_media(encoded),
        }

    def _fitting(self, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
        """(examples of at most `max_length` tokens in every form, ids of the others). Each rank renders a share of them."""
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        long = [example.id for example in examples[rank::ranks] if not self._fits(example)]
        found = [long]
        if ranks > 1:
            found = [[] for _ in range(ranks)]
            dist.all_gather_object(found, long)
        too_long = {id for ids in found for id in ids}
        return [one for one in examples if one.id not in too_long], [one.id for one in examples if one.id in too_long]

    def _fits(self, example: Example) -> bool:
        forms = self._renderings.forms(example, nothink=self.settings.nothink_ratio > 0)
        return all(len(form.encoded.input_ids) <= self.settings.max_length for form in forms)

    def _training_draws(self, examples: Sequence[Example]) -> list[tuple[Example, bool]]:
        rng = np.random.default_rng([self.settings.seed, 0])
        stream = ExampleStream([example.thinks for example in examples], self.settings.nothink_ratio, rng)
        return [(examples[index], nothink) for index, nothink in stream.draw(self.steps * self.settings.batch_size)]

    def _forms(self, examples: Sequence[Example]) -> list[tuple[Example, bool]]:
        both = self.settings.nothink_ratio > 0
        return [(one, nothink) for one in examples for nothink in ((False, True) if both and one.thinks else (False,))]

    def _record(self, rejected: dict[str, list[str]], name: str) -> None:
        """Adds to the run directory's rejected.json; rank 0 alone."""
        if dist.is_initialized() and dist.get_rank() > 0:
            return
        run = RunDir(self.settings.out)
        path = run.path / "rejected.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        run.atomic_write(path.name, json.dumps(before | {name: rejected}, indent=1, ensure_ascii=False))
