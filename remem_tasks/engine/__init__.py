"""Models for the harness: `remem_hf` (any image-text-to-text checkpoint) and `llava` on top of it."""
