"""Overrides that make a plan of a very small model."""

from __future__ import annotations

SMALL = [
    "model.in_domains=[rgb,depth]", "model.out_domains=[rgb,depth]", "model.input_size=8", "model.patch_size=4",
    "model.num_encoded_tokens=3", "train.global_batch=4",
]  # fmt: skip
