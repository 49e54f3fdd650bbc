"""What verl imports in each of its processes (`actor_rollout_ref.model.external_lib`), so that its registries hold ours."""

import importlib

MODULES = ("rlcs.verl.engine", "rlcs.verl.agent_loop", "rlcs.verl.objective", "rlcs.verl.trainer")

for module in MODULES:
    importlib.import_module(module)
