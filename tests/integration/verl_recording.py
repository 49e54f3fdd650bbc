"""A run of the verl engine that also writes down what its trainer hands to verl's workers (dump-STEP.pt in the run directory),
marks when responses are asked for (asked-STEP), and saves a checkpoint after the first step whatever `save_every` says.

    python verl_recording.py CONFIG.json

Imported by the trainer's process as well, where it puts the recording trainer in the place of ours.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

FIELDS = [
    "prompts", "responses", "response_mask", "rollout_log_probs", "old_log_probs", "advantages", "index", "loss_weight",
    "rm_scores", "values", "returns",
]  # fmt: skip


def register() -> None:
    import torch
    import transfer_queue as tq
    from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

    importlib.import_module("rlcs.verl.plugins")
    from rlcs.verl.trainer import CurriculumTrainer

    class Recording(CurriculumTrainer):
        def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=FIELDS)
            columns = {name: list(data[name]) for name in FIELDS if name in data.keys()}  # noqa: SIM118
            rows = [{name: values[place] for name, values in columns.items()} for place in range(len(batch))]
            for row in rows:
                row["index"] = int(getattr(row["index"], "data", row["index"]))
            torch.save(rows, self.settings.out / f"dump-{self._updates}.pt")
            return super()._update_actor(batch, metrics)

        def prepare_step(self) -> dict[str, float]:
            found = super().prepare_step()
            (self.settings.out / f"asked-{self._updates}").touch()
            return found

        def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
            batch = super().step(metrics, timing_raw)
            if self.global_steps == 1:
                self._save_checkpoint()
            return batch

    TRAINER_REGISTRY["rlcs"] = Recording


def main() -> None:
    from rlcs.rl_config import RlConfig
    from rlcs.verl import launch

    launch.PLUGINS = "verl_recording"
    launch.run_verl(RlConfig(**json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
elif "ray" in sys.modules:
    register()
