"""What runs inside vLLM's worker processes: taking over the trainer's weights in place.

Weights come through memory, not through files: parameters on the CPU in one block that trainer and workers map (a
memfd of the trainer's process), parameters on a GPU as CUDA IPC handles.
"""

from __future__ import annotations

import logging
import os
import pickle
import select
import signal
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Layout = list[tuple[str, str, list[int], int]]
"""Name, dtype, shape and byte offset of every tensor of a block."""


class WeightReceiver:
    """vLLM's `worker_extension_cls`: its methods become methods of every worker, called by `collective_rpc`."""

    model_runner: Any
    device: torch.device

    def end_with(self, pid: int) -> None:
        """Ends this process when `pid` has ended: killed, it could not tell vLLM's processes to free the GPU."""
        watched = os.pidfd_open(pid)
        threading.Thread(target=_end_after, args=(watched,), name="rlcs-owner", daemon=True).start()

    def receive_block(self, pid: int, descriptor: int, size: int, layout: Layout) -> int:
        """Loads the tensors of the block that process `pid` holds open as `descriptor`; -> how many."""
        path = f"/proc/{pid}/fd/{descriptor}"
        return self._load(list(_views(_mapped(path, size), layout)))

    def receive_handles(self, handles: bytes) -> int:
        """Loads CUDA tensors of a trainer on the same GPU: pickled (name, rebuild function, arguments)."""
        tensors = []
        for name, rebuild, arguments in pickle.loads(handles):  # from our own trainer, over vLLM's private socket
            tensors.append((name, rebuild(*arguments)))
        return self._load(tensors)

    def _load(self, tensors: list[tuple[str, torch.Tensor]]) -> int:
        # vLLM's reload restores what packing, quantisation or padding made of the weights and does it again.
        with _without_false_alarms(_weightless(self.model_runner.get_model(), [name for name, _ in tensors])):
            self.model_runner.reload_weights(weights_iterator=iter(tensors), is_checkpoint_format=True)
        _pack_heads(self.model_runner.get_model())
        return len(tensors)


def _weightless(model: torch.nn.Module, given: Sequence[str]) -> set[str]:
    """Names of the classes of layers that an update with these tensors has no weights for, and needs none: tables of angles or
    positions are computed, and a head that is tied to the embeddings is `_pack_heads`' business.
    """
    layers = list(model.modules())
    weighted = {type(layer).__name__ for layer in layers if any(True for _ in layer.parameters(recurse=False))}
    tied = set() if any("lm_head" in name for name in given) else {"ParallelLMHead"}
    return {type(layer).__name__ for layer in layers} - weighted | tied


@contextmanager
def _without_false_alarms(layers: Collection[str]) -> Iterator[None]:
    """Keeps vLLM's reload from warning, at every update, that layers of these classes got no weights."""

    def is_alarm(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and record.args and record.args[0] in layers)

    reload = logging.getLogger("vllm.model_executor.model_loader.reload.layerwise")
    reload.addFilter(is_alarm)
    try:
        yield
    finally:
        reload.removeFilter(is_alarm)


def _pack_heads(model: torch.nn.Module) -> None:
    """Has vLLM's CPU build pack output heads anew. Of one that is tied to the embeddings no tensor of its own comes, and the
    reload, which leaves such layers alone, would go on with what was packed of the weights before.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.platforms import current_platform

    for layer in model.modules():
        if current_platform.is_cpu() and isinstance(layer, ParallelLMHead):
            layer.quant_method.process_weights_after_loading(layer)


def _end_after(process: int) -> None:
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    waiting.poll()
    os.kill(os.getpid(), signal.SIGKILL)


def _mapped(path: str, size: int) -> Any:
    return torch.UntypedStorage.from_file(path, shared=True, nbytes=size)


def _views(block: Any, layout: Layout) -> Iterator[tuple[str, torch.Tensor]]:
    for name, dtype, shape, offset in layout:
        kind = getattr(torch, dtype)
        empty = torch.empty(0, dtype=kind)
        count = int(torch.Size(shape).numel())
        yield name, empty.set_(block, offset // kind.itemsize, (count,), (1,)).view(shape)


class WeightBlock:
    """The trainer's side: its parameters, copied into memory that other processes of this user can map.

    The memory belongs to this process and goes with it; nothing is written to disk. Linux only (memfd).
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("rlcs-weights", os.MFD_CLOEXEC)
        self._size = 0
        self._block: Any = None
        self._layout: Layout = []

    @property
    def message(self) -> tuple[int, int, int, Layout]:
        """Arguments of `WeightReceiver.receive_block`."""
        return os.getpid(), self._descriptor, self._size, self._layout

    @torch.no_grad()
    def write(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Replaces the block's contents, tensor by tensor: of merged adapters, say, no more than one is held besides."""
        layout, offset = [], 0
        for name, tensor in tensors:
            entry = (name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape), offset)
            offset += -(-tensor.nbytes // 64) * 64
            if offset > self._size:
                self._grow(offset)
            ((_, view),) = _views(self._block, [entry])
            view.copy_(tensor)
            layout.append(entry)
        self._layout = layout

    def _grow(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        self._block, self._size = _mapped(f"/proc/self/fd/{self._descriptor}", size), size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
