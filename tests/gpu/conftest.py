"""Tests of the CUDA paths: `make test-gpu`, on a machine with a GPU. Elsewhere pytest does not collect this folder."""

import torch

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]
