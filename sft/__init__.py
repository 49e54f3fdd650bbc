"""Supervised fine-tuning: examples to packed batches to a checkpoint; and the run directory that RL shares."""
