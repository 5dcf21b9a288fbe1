"""What is noted of how a model in memory computes."""

from types import SimpleNamespace

import pytest
import torch
from support.scripted import Scripted, run

from remem_tasks.harness.backends import computed_by
from remem_tasks.harness.remem_hf import RememHF


def test_a_backend_that_tells_nothing():
    assert computed_by(SimpleNamespace()) == {} and computed_by(SimpleNamespace(model=object())) == {}


@pytest.mark.parametrize(
    ("quantised", "said"),
    [
        (None, "none"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes 4 bit nf4"),
        ({"quant_method": "gptq", "bits": 8}, "gptq 8 bit"),
        (SimpleNamespace(to_dict=lambda: {"quant_method": "fp8"}), "fp8"),
    ],
)  # fmt: skip
def test_quantisation(quantised, said):
    config = SimpleNamespace(quantization_config=quantised, _attn_implementation="eager")
    found = computed_by(SimpleNamespace(model=SimpleNamespace(config=config, dtype=torch.float16)))
    assert found == {"dtype": "float16", "attention": "eager", "quantisation": said}


def test_it_stands_in_the_results(data_dir, checkpoints, monkeypatch):
    monkeypatch.setenv("REMEM_DATA", str(data_dir))
    monkeypatch.setenv("REMEM_METRICS", "em")
    model = RememHF(str(checkpoints["llava"]), device="cpu", dtype="bfloat16")
    results = run(model, "remem_forget1", limit=1, gen_kwargs="max_new_tokens=2")
    found = results["configs"]["remem_forget1"]["metadata"]["computed"]
    assert {len(found[name]) for name in ("chat template", "picture processing")} == {8}
    assert len(found["pictures"]) == 16
    assert found["dtype"] == "bfloat16" and found["attention"] and found["quantisation"] == "none"
    results = run(Scripted(lambda row: "x"), "remem_forget1", limit=1)
    assert "computed" not in results["configs"]["remem_forget1"]["metadata"]


def test_what_prompts_are_made_of_is_noted():
    def told(template, **more):
        images = SimpleNamespace(
            to_dict=lambda: {"size": {"height": 336}, "resample": 3, "name": "a", **more}
        )
        processor = SimpleNamespace(chat_template=template, image_processor=images)
        return computed_by(
            SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace()), processor=processor)
        )

    first = told("{{ a }}")
    assert told("{{ a }}", name="b") == first  # what no picture depends on
    assert told("{{ b }}")["chat template"] != first["chat template"]
    assert told("{{ a }}", max_pixels=9)["picture processing"] != first["picture processing"]
