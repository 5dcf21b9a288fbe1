"""The logit lens: by the model's own head at the last layer, and where it is not to be had."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.rows import rows_of
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.attacks import lens
from remem_tasks.benchmarks.remem.benchmark import BENCHMARK
from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat
from remem_tasks.whitebox import Secret


@given(st.integers(1, 200))
def test_late_layers_are_the_last_quarter(count):
    found = lens.late_layers(count)
    assert found[-1] == count and found == sorted(found) and count / 4 <= len(found) < count / 4 + 1


def test_in_top():
    assert lens.in_top({30: 5, 31: 4, 32: 9}) == 1 and lens.in_top({30: 5, 32: 9}) == 0
    assert lens.in_top({32: 2}, top=1) == 0


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_the_last_layer_is_what_the_model_says(checkpoints, arch):
    """Its rank is that of the engine's own distribution behind the cloze prompt."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoints[arch]).eval()
    processor = AutoProcessor.from_pretrained(checkpoints[arch])
    asked = []
    for place, row in enumerate(rows_of("ada_birch")[:4]):
        content = [{"type": "image", "image": BENCHMARK.images({**row, "row_id": "x:0"})[0]}]
        chat = Chat(
            [{"role": "user", "content": [*content, {"type": "text", "text": row["question"]}]}],
            f"row {place}",
        )
        asked.append((chat, Secret(row["cloze_prompt"], f" {row['keywords']}")))
    found = lens.ranks(model, processor, asked)
    decoder = Decoder(model, processor)
    decoder.banned[:] = False  # the lens looks at all tokens
    for (chat, secret), ranks in zip(asked, found):
        (part,) = decoder.prompts.parts([(chat, secret.before, [secret.text], secret.after)])
        state = decoder.extend(decoder.prefill([chat]), [0], [part.given.tokens])
        first = part.candidates[0][0]
        assert ranks == {2: int((state.logp[0] >= state.logp[0, first]).sum())}


def test_an_architecture_that_is_not_known_says_so():
    with pytest.raises(lens.NoLens, match="Linear: where its last norm stands is not known"):
        lens.ranks(torch.nn.Linear(2, 2), None, [])
