"""The insides of transformers and torch that the engine stands on. No other module names them.

What each is for: `engine/tree.py` (a cache layer with room to grow), `engine/packing.py` (attention under a name of its own,
and the kernel behind `scaled_dot_product_attention` on a CPU, which gives the logarithm of the normaliser too; None where
torch has none). `tests/contracts/test_seams.py` says which of them a release has taken away.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "NORMALISED_ATTENTION",
    "Cache",
    "DynamicLayer",
    "sdpa_attention_forward",
]

NORMALISED_ATTENTION: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
