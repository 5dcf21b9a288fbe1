"""Weights rounded to a few bits: by hand, to the nearest, and of the language model alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from remem_tasks.attacks.quantise import BLOCK, KINDS, NF4, int8, language_layers, nf4, quantise, rtn4
from remem_tasks.errors import RememError


def test_values_by_hand():
    weight = torch.tensor([[2.0, -2.0, 0.1, 0.9, 0.0, 1.0]])
    levels = [2.0, -2.0, 0.1591606, 0.8814197, 0.0, 0.8814197]
    assert nf4(weight)[0].tolist() == pytest.approx(
        levels, abs=1e-6
    )  # 2 × the nearest of .0796, .4407, 0, .4407
    assert rtn4(weight)[0].tolist() == pytest.approx([2, -2, 0, 6 / 7, 0, 8 / 7], abs=1e-6)
    assert int8(torch.tensor([[1.0, 0.5, -0.1], [10.0, 0.05, 0.0]])).flatten().tolist() == pytest.approx(
        [1, 64 / 127, -13 / 127, 10, 10 / 127, 0], abs=1e-6
    )


def test_the_codebook_is_that_of_normal_quantiles():
    """QLoRA, appendix E: 8 quantiles above 0, 7 below, 0 and both ends; with the offset of its code."""
    from scipy.stats import norm

    offset = 0.9677083
    above = norm.ppf(torch.linspace(offset, 0.5, 9)[:-1].double().numpy())
    below = -norm.ppf(torch.linspace(offset, 0.5, 8)[:-1].double().numpy())
    levels = sorted([*above, 0.0, *below])
    assert [level / max(levels) for level in levels] == pytest.approx(NF4, abs=2e-6)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 150), st.integers(0, 2**31), st.sampled_from(sorted(KINDS)))
def test_each_value_goes_to_the_nearest(rows, columns, seed, kind):
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    found = KINDS[kind](weight)
    per = columns if kind == "int8" else BLOCK
    levels = torch.tensor(
        NF4 if kind == "nf4" else [n / (7 if kind == "rtn4" else 127) for n in range(-127, 128)]
    )
    if kind == "rtn4":
        levels = torch.arange(-7, 8) / 7
    for start in range(0, weight.numel(), per):
        one, other = weight.flatten()[start : start + per], found.flatten()[start : start + per]
        scale = one.abs().max()
        nearest = (one[:, None] / scale - levels).abs().min(-1).values * scale
        assert torch.allclose((one - other).abs(), nearest, atol=1e-5)
    assert found.shape == weight.shape and found.dtype == weight.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_types_stay(kind):
    assert not KINDS[kind](torch.zeros(3, 70)).any()
    assert KINDS[kind](torch.randn(4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_the_language_model_alone_is_changed(checkpoints, arch):
    model = AutoModelForImageTextToText.from_pretrained(checkpoints[arch])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layers = language_layers(model)
    assert quantise(model, "nf4") == len(layers) >= 14
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.weight" for name in layers}
    assert all("language_model" in name for name in changed)


def test_what_is_not_done_is_refused(checkpoints):
    with pytest.raises(RememError, match=r"bitsandbytes: .*; round_trip puts"):
        quantise(None, "nf4", "bitsandbytes")
    with pytest.raises(RememError, match="'gguf' unknown; choose from round_trip, bitsandbytes"):
        quantise(None, "nf4", "gguf")
    with pytest.raises(RememError, match="quantisation 'nf2' unknown"):
        quantise(None, "nf2")
    with pytest.raises(RememError, match="no linear layer"):
        quantise(torch.nn.Linear(2, 2), "nf4")
