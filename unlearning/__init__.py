"""Forget algorithms for vision-language models as TRL trainers."""
