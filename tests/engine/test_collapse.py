"""Distributions that do not come from the prompt are found, whatever the batches."""

import pytest
import torch

from remem_tasks.engine.collapse import PromptWatch
from remem_tasks.errors import RememError

FLAT = torch.zeros(1, 5).log_softmax(-1)
ONE = torch.tensor([[1.0, 2.0, 3.0, 4.0, -torch.inf]]).log_softmax(-1)
OTHER = torch.tensor([[1.0, 2.0, 3.0, 4.1, -torch.inf]]).log_softmax(-1)


def test_constant_logits_are_named():
    with pytest.raises(RememError, match="row 4: .*constant"):
        PromptWatch().see(torch.cat([ONE[:, :4], FLAT[:, :4]]), ["a", "b"], ["row 3", "row 4"])


@pytest.mark.parametrize("batches", [[(ONE, "a"), (ONE, "b")], [(torch.cat([ONE, ONE]), "ab")]])
def test_one_distribution_after_two_prompts(batches):
    watch = PromptWatch()
    for logp, prompts in batches:
        watch.see(logp, list(prompts), list(prompts))
    with pytest.raises(RememError, match="the same after 2 different prompts"):
        watch.check()


def test_what_is_no_fault():
    watch = PromptWatch()
    watch.see(ONE, ["a"], ["row 0"])
    watch.see(ONE, ["a"], ["row 1"])  # the same prompt again
    watch.check()
    assert not watch.depends
    watch.see(OTHER, ["b"], ["row 2"])
    watch.check()
    assert watch.depends
