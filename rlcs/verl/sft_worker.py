"""What torchrun runs for `rlcs sft engine=verl`, one process for each GPU: verl's SFT trainer over `ExampleDataset`.

verl's trainer shuffles, has loggers of its own choice, and averages held-out losses over batches. Here the order is the
dataset's, the run directory is ours, and held-out losses are averaged over tokens.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import yaml
from torch.utils.data import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from rlcs.verl.export import export_run
from rlcs.verl.overrides import compose
from rlcs.verl.schedule import follow_schedule
from rlcs.verl.sft import SFT_TRAINER
from rlcs.verl.sft_dataset import ExampleDataset
from rlcs.verl.sft_loss import TalliedLoss
from sft.rundir import RunDir
from sft.tally import Tally


class ExampleTrainer(SFTTrainer):
    """verl's trainer on batches in the dataset's order, with metrics in our run directory."""

    train_dataset: ExampleDataset
    val_dataset: ExampleDataset | None
    engine: Any
    training_client: Any

    def _build_dataset(self) -> None:
        super()._build_dataset()
        datasets = [dataset for dataset in (self.train_dataset, self.val_dataset) if dataset is not None]
        self.domains = sorted({domain for dataset in datasets for domain in dataset.domains})
        for dataset in datasets:
            dataset.domains = self.domains

    def _build_engine(self) -> None:
        super()._build_engine()
        loss = TalliedLoss(self.domains)
        self.training_client.set_loss_fn(loss)
        self.training_client = RecordedWorker(self.training_client, self.train_dataset, loss)

    def _init_engine(self) -> None:
        super()._init_engine()
        follow_schedule(self.engine, self.train_dataset.settings, self.train_dataset.steps)

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_dataloader, self.train_sampler = self._in_order(self.train_dataset)
        if self.val_dataset is not None:
            self.val_dataloader, self.val_sampler = self._in_order(self.val_dataset)

    def _in_order(self, dataset: ExampleDataset) -> tuple[StatefulDataLoader, DistributedSampler[Any]]:
        rank, ranks = self.engine.get_data_parallel_rank(), self.engine.get_data_parallel_size()
        if len(dataset) < ranks:
            raise ValueError(f"{len(dataset)} examples for {ranks} data-parallel ranks; expected at least one for each")
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, num_replicas=ranks, rank=rank, shuffle=False, drop_last=True
        )
        loader = StatefulDataLoader(
            dataset,
            batch_size=self.train_batch_size_per_dp,
            sampler=sampler,
            collate_fn=self.collate_fn,
            num_workers=self.config.data.num_workers,
        )
        return loader, sampler

    def fit(self) -> None:
        self.training_client.begin(self.resume_global_step)
        super().fit()
        self.training_client.finish()


class RecordedWorker:
    """A training worker of verl's that writes what it is asked to do into the run directory: a row a step, with the held-out
    loss in it where the step was followed by an evaluation. Rank 0 writes.
    """

    def __init__(self, worker: Any, dataset: ExampleDataset, loss: TalliedLoss) -> None:
        self._worker, self._settings, self._loss = worker, dataset.settings, loss
        self._writes = dist.get_rank() == 0
        self._run = RunDir(self._settings.out, resume=True, loggers=self._settings.loggers)
        self._step = 0
        self._row: dict[str, float] = {}
        self._heldout = Tally()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def begin(self, step: int) -> None:
        """Makes `step` the next to be recorded."""
        self._step = step
        if self._writes:
            self._run.rewind(step)
            config = yaml.safe_dump(self._settings.model_dump(mode="json"), sort_keys=False)
            self._run.atomic_write("config.yaml", config)

    def finish(self) -> None:
        """Writes what is left."""
        self._flush()
        self._run.close()

    def train_batch(self, data: Any) -> Any:
        self._flush()
        began = time.perf_counter()
        lr = self._worker.engine.optimizer.param_groups[0]["lr"]
        output = self._worker.train_batch(data=data)
        tally = self._loss.take(self._worker.engine.get_data_parallel_group())
        if output is None:  # of ranks that share a sequence only the first has an output
            return None
        seconds, tokens = time.perf_counter() - began, float(sum(tu.get(data, "global_token_num")))
        self._row = {
            **tally.losses(),
            "lr": lr,
            "grad_norm": tu.get(output, "metrics")["grad_norm"],
            "packed_tokens": tokens,
            "target_tokens": float(tally.tokens),
            "seconds/step": seconds,
            "tokens_per_s": tokens / seconds,
        }
        return output

    def infer_batch(self, data: Any) -> Any:
        output = self._worker.infer_batch(data)
        tally = self._loss.take(self._worker.engine.get_data_parallel_group())
        self._heldout += tally
        return output

    def _flush(self) -> None:
        if self._heldout.tokens:
            self._row |= {f"eval/{name}": value for name, value in self._heldout.losses().items()}
        if self._row:
            if self._writes:
                self._run.log(self._step, self._row)
            self._step += 1
        self._row, self._heldout = {}, Tally()


def main(overrides: Sequence[str]) -> None:
    """Trains on verl's configuration composed with `overrides`, as one of torchrun's processes."""
    config = compose(overrides, name=SFT_TRAINER)
    torch.manual_seed(config.trainer.seed)  # of adapters' first weights
    initialize_global_process_group()
    trainer = ExampleTrainer(config)
    trainer.fit()
    rank = dist.get_rank()
    destroy_global_process_group()  # the others need not wait, and time out, while files are written
    if rank == 0:
        export_run(trainer.train_dataset.settings.out)


if __name__ == "__main__":
    main(sys.argv[1:])
