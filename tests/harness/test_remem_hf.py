"""`--model remem_hf` on the tiny checkpoints: against a naive decoder, and with everything that can be broken."""

import json
import re
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from support.scripted import run, texts
from support.slow import others_slow
from transformers import AutoModelForImageTextToText, AutoProcessor

from remem_tasks.engine.prompts import Chat
from remem_tasks.errors import RememError
from remem_tasks.harness.generation import cut, sampling_options
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.harness.row_requests import content_of
from remem_tasks.tiny.build import ARCHS

SHORT = {"max_new_tokens": 12}


def copy_of(checkpoint, folder, without=()):
    """A copy of a checkpoint folder less the files whose names match."""
    shutil.copytree(checkpoint, folder)
    for file in folder.iterdir():
        if any(re.search(pattern, file.name) for pattern in without):
            file.unlink()
    return folder


def prompt(text, colour="red", row="row 0"):
    picture = Image.new("RGB", (56, 56), colour)
    content = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
    return Chat([{"role": "user", "content": content}], row)


PROMPTS = [
    prompt("Who?", "red"),
    prompt("What is the city of Ada Birch? " * 4, "navy"),
    prompt("Where does the person in the image live?", "gold"),
]


def naive_greedy(folder, one, steps):
    """The argmax of the whole sequence's forward pass, token by token, one row, no cache, no padding."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(one.messages, add_generation_prompt=True)
    image = one.messages[0]["content"][0]["image"]
    inputs = processor(text=text, images=image, return_tensors="pt")
    start = inputs["input_ids"].shape[1]
    while inputs["input_ids"].shape[1] < start + steps:
        with torch.no_grad():
            token = model(**inputs, use_cache=False).logits[0, -1].argmax()
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token.view(1, 1)], 1)
        for name in ("attention_mask", "mm_token_type_ids"):
            if name in inputs:
                fill = torch.ones if name == "attention_mask" else torch.zeros
                inputs[name] = torch.cat([inputs[name], fill(1, 1, dtype=inputs[name].dtype)], 1)
        if token == processor.tokenizer.eos_token_id:
            break
    reply = inputs["input_ids"][0, start:]
    return processor.tokenizer.decode(reply, skip_special_tokens=True), len(reply)


def lively(model):
    """The model with larger weights: at random small ones, it says the same of everything."""
    for weight in model.model.parameters():
        if weight.dim() > 1:
            weight.data *= 4
    return model


@pytest.mark.parametrize("arch", ARCHS)
def test_replies_are_the_naive_ones_in_any_batch(checkpoints, tiny, arch):
    model = tiny(arch)
    expected = [naive_greedy(checkpoints[arch], one, 12) for one in PROMPTS]
    together = model.generate(PROMPTS, SHORT)
    alone = [model.generate([one], SHORT)[0] for one in PROMPTS]
    assert [(reply.text, reply.token_counts.output_tokens) for reply in together] == expected
    assert [(reply.text, reply.token_counts.output_tokens) for reply in alone] == expected
    lengths = [reply.token_counts.input_tokens for reply in together]
    assert lengths == [reply.token_counts.input_tokens for reply in alone] and len(set(lengths)) == 3


@pytest.mark.parametrize("arch", others_slow(ARCHS, "llava"))
def test_a_run_does_not_depend_on_the_batch_size(remem_data, tiny, arch):
    runs = [
        run(lively(tiny(arch, batch_size=size)), "remem_forget1,remem_retain", gen_kwargs="max_new_tokens=24")
        for size in (1, 7)
    ]
    for task in ("remem_forget1", "remem_retain"):
        said = [texts(results, task) for results in runs]
        assert said[0] == said[1] and len(set(said[0])) > 3
        scores = [
            {name: score for name, score in results["results"][task].items() if isinstance(score, float)}
            for results in runs
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4) and "remem_exposure,none" in scores[0]


@pytest.mark.parametrize("arch", ARCHS)
def test_the_picture_and_the_question_reach_the_model(tiny, arch):
    """Weights are random, so a reply changes with anything that reaches them."""
    model = lively(tiny(arch))
    inputs = [prompt("Who?", "red"), prompt("Who?", "green"), prompt("Where?", "red")]
    assert len({reply.text for reply in model.generate(inputs, {"max_new_tokens": 40})}) == 3


def test_end_token_is_counted_and_hidden(tiny):
    model = tiny()
    end = model.tokenizer.eos_token_id
    head = model._model.lm_head
    head.weight.data[:] = 0
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features))
    head.bias.data[end] = 9.0
    reply = model.generate(PROMPTS[:2], SHORT)[1]
    assert (reply.text, reply.token_counts.output_tokens) == ("", 1)  # an honest blank


def test_the_checkpoints_own_sampling_is_left_out(checkpoints, tiny, tmp_path):
    folder = copy_of(checkpoints["llava"], tmp_path / "c")
    own = json.loads((folder / "generation_config.json").read_text())
    own |= {"repetition_penalty": 50.0, "do_sample": True, "temperature": 3.0, "no_repeat_ngram_size": 1}
    (folder / "generation_config.json").write_text(json.dumps(own))
    changed = RememHF(str(folder), device="cpu").generate(PROMPTS, {"max_new_tokens": 40})
    assert [reply.text for reply in changed] == [
        reply.text for reply in tiny().generate(PROMPTS, {"max_new_tokens": 40})
    ]


def test_sampling_is_from_the_model_itself(tiny):
    """With top-k 50 (the library's default) no more than 50 different first tokens could come."""
    model = tiny()
    torch.manual_seed(0)
    draws = model.generate(
        [prompt("Who?", row=f"row {at}") for at in range(300)], {"max_new_tokens": 1, "temperature": 1.0}
    )
    vocabulary = len(model.tokenizer)
    assert vocabulary > 300 and len({reply.text for reply in draws}) > 100
    narrow = model.generate(
        [prompt("Who?", row=f"row {at}") for at in range(100)],
        {"max_new_tokens": 1, "temperature": 1.0, "top_k": 3},
    )
    assert len({reply.text for reply in narrow}) <= 3


def test_sampling_options():
    assert sampling_options({"temperature": 0, "until": []}) == {
        "max_new_tokens": 128,
        "do_sample": False,
    }
    ancestral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "do_sample": True}
    assert ancestral.items() <= sampling_options({"do_sample": True}).items()
    assert sampling_options({"temperature": 0.5, "top_p": 0.9})["top_p"] == 0.9
    assert sampling_options({"temperature": 0.7, "do_sample": False})["do_sample"] is False
    with pytest.raises(RememError, match="leave out one"):
        sampling_options({"do_sample": True, "temperature": 0})
    with pytest.raises(RememError, match="num_beams"):
        sampling_options({"num_beams": 4})
    with pytest.raises(RememError, match="length_penalty unknown"):
        sampling_options({"length_penalty": 2})


def test_cut():
    assert cut("one\n\ntwo. three", ["two", "\n\n"]) == "one"
    assert cut("one", ["two"]) == cut("one", None) == cut("one", [""]) == "one"
    assert cut("one. two", ".") == "one"


def test_out_of_memory_halves_the_batch(remem_data, tiny, monkeypatch):
    sizes = []
    work = RememHF._work

    def small(self, state, chats, *others):
        sizes.append(len(chats))
        if len(chats) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return work(self, state, chats, *others)

    monkeypatch.setattr(RememHF, "_work", small)
    with pytest.warns(UserWarning, match="going on with [31] rows at once"):
        halved = run(tiny(batch_size="auto"), "remem_forget1", gen_kwargs="max_new_tokens=6")
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(RememHF, "_work", work)
    assert texts(halved, "remem_forget1") == texts(
        run(tiny(), "remem_forget1", gen_kwargs="max_new_tokens=6"), "remem_forget1"
    )

    def never(self, *arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(RememHF, "_work", never)
    with pytest.raises(RememError, match=r"split 'forget1', row \d .*out of memory with this row alone"):
        run(tiny(batch_size=4), "remem_forget1")


def test_any_other_fault_stops_the_run(remem_data, tiny, monkeypatch):
    def broken(self, *arguments):
        raise RuntimeError("device-side assert")

    monkeypatch.setattr(RememHF, "_work", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        run(tiny(), "remem_forget1")


@pytest.mark.parametrize(("sample", "number"), [(False, "nan"), (True, "nan"), (False, "inf")])
def test_logits_that_are_no_numbers_stop_the_run(remem_data, tiny, sample, number):
    model = tiny(batch_size=3)
    model._model.lm_head.weight.data[5, 0] = float(number)
    with pytest.raises(RememError, match=r"split 'forget1', row \d .*logits are NaN or infinite"):
        run(model, "remem_forget1", gen_kwargs="temperature=1" if sample else "max_new_tokens=4")


def test_a_prompt_that_does_not_fit_is_named(tiny):
    model = tiny()
    long = prompt("What is the city of Ada Birch? " * 300, row="row 7")
    with pytest.raises(RememError, match=r"row 7: the prompt has \d+ tokens.* context of 1024"):
        model.generate([*PROMPTS, long], SHORT)


def test_only_text_and_images(tiny):
    with pytest.raises(RememError, match="row 3: remem_hf takes text and images, not video"):
        content_of([{"type": "video", "url": "x.mp4"}], "row 3")
    for call in (tiny().loglikelihood, tiny().generate_until_multi_round):
        with pytest.raises(RememError, match="does not offer"):
            call([])


# Adapters


@pytest.fixture(scope="module")
def adapter(checkpoints, tmp_path_factory):
    """(folder of an adapter that changes replies, folder of the same change merged into the checkpoint)."""
    base = str(checkpoints["llava"])
    torch.manual_seed(3)
    model = AutoModelForImageTextToText.from_pretrained(base)
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules=r".*language_model.*(q_proj|v_proj|down_proj)")
    )
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    folder, merged = tmp_path_factory.mktemp("adapter"), tmp_path_factory.mktemp("merged")
    model.save_pretrained(folder)
    model.merge_and_unload().save_pretrained(merged)
    AutoProcessor.from_pretrained(base).save_pretrained(merged)
    return folder, merged


def test_an_adapter_is_on(adapter, checkpoints, tiny):
    folder, merged = map(str, adapter)
    expected = [reply.text for reply in RememHF(merged, device="cpu").generate(PROMPTS, SHORT)]
    assert expected != [reply.text for reply in tiny().generate(PROMPTS, SHORT)]
    for model in (tiny(peft=folder), RememHF(folder, device="cpu")):
        assert [reply.text for reply in model.generate(PROMPTS, SHORT)] == expected


def edit_adapter(folder, change):
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_that_does_not_fit(adapter, checkpoints, tiny, tmp_path):
    def first(weights):
        return next(iter(weights))

    cases = {
        "missing": (
            lambda weights: weights.pop(first(weights)),
            "does not fit the checkpoint: Found missing",
        ),
        "unplaced": (
            lambda weights: weights.update(other=torch.zeros(1)),
            "no place in the checkpoint: other",
        ),
        "shape": (
            lambda weights: weights.update({first(weights): torch.zeros(4, 7)}),
            "does not fit or cannot",
        ),
    }
    for name, (change, message) in cases.items():
        folder = edit_adapter(shutil.copytree(adapter[0], tmp_path / name), change)
        with pytest.raises(RememError, match=message):
            tiny(peft=str(folder))
    with pytest.raises(
        RememError, match="adapter"
    ):  # of the other architecture, with another width of v_proj
        tiny("qwen2_5_vl", peft=str(adapter[0]))
    with pytest.raises(RememError, match="no adapter_config"):
        tiny(peft=str(checkpoints["llava"]))
    with pytest.raises(RememError, match=r"adapter '/no/where': no such folder"):
        tiny(peft="/no/where")
    with pytest.raises(RememError, match="is an adapter itself"):
        RememHF(str(adapter[0]), peft=str(adapter[0]))
    config = json.loads((adapter[0] / "adapter_config.json").read_text())
    lost = shutil.copytree(adapter[0], tmp_path / "lost")
    (lost / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone/base"}))
    with pytest.raises(RememError, match=r"names the base checkpoint '/gone/base'.*pretrained=<base>,peft="):
        RememHF(str(lost))


# Checkpoints


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (["processor_config", "preprocessor_config"], "processor"),
        (["tokenizer"], "processor that can be loaded|no tokenizer"),
        (["chat_template"], "no chat template"),
        (["safetensors"], "cannot be loaded"),
        (["^config.json"], "config"),
    ],
)
def test_a_checkpoint_with_parts_missing(checkpoints, tmp_path, without, message):
    folder = copy_of(checkpoints["llava"], tmp_path / "c", without)
    with pytest.raises(RememError, match=message) as raised:
        RememHF(str(folder), device="cpu")
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_weights_missing_or_misshapen(checkpoints, tmp_path):
    def key(weights):
        return next(name for name in weights if "layers.1.mlp.down_proj" in name)

    cases = {
        "missing": (lambda weights: weights.pop(key(weights)), r"1 missing keys: .*down_proj"),
        "shape": (
            lambda weights: weights.update({key(weights): torch.zeros(3, 3)}),
            r"mismatched|cannot be loaded",
        ),
    }
    for name, (change, message) in cases.items():
        folder = copy_of(checkpoints["llava"], tmp_path / name)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(RememError, match=message):
            RememHF(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": ""}, "no checkpoint"),
        ({"pretrained": "/no/where"}, "'/no/where': no such folder"),
        ({"pretrained": "./no_where"}, "no such folder"),
        ({"pretrained": "someone/nothing"}, "could not be fetched|processor that can be loaded"),
        ({"dtype": "int8"}, "dtype 'int8' unknown"),
        ({"batch_size": "0"}, "batch_size '0'"),
        ({"batch_size": "many"}, "batch_size 'many'"),
        ({"chat_template": "/no/file"}, "chat_template '/no/file': no such file"),
        ({"max_pixels": 100}, "does not know max_pixels"),
    ],
)
def test_bad_arguments(checkpoints, arguments, message):
    with pytest.raises(RememError, match=message):
        RememHF(**{"pretrained": str(checkpoints["llava"]), **arguments})


def test_arguments_from_the_command_line(checkpoints, tmp_path):
    folder = checkpoints["llava"]
    model = RememHF.create_from_arg_string(
        f"pretrained={folder},dtype=bfloat16,batch_size=3",
        {"batch_size": "1", "device": "cpu", "max_batch_size": None},
    )
    assert (model.batch_size, model.model.dtype, str(model.device)) == (3, torch.bfloat16, "cpu")
    assert len(model.generate(PROMPTS, SHORT)) == 3
    with pytest.raises(RememError, match=r"model_args colour unknown; known: pretrained, peft"):
        RememHF.create_from_arg_string(f"pretrained={folder},colour=red")
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}{% for p in m.content %}{% if p.type == 'image' %}<image> {% else %}{{ p.text }}"
        "{% endif %}{% endfor %}{% endfor %} Reply:"
    )
    model = RememHF(str(folder), chat_template=str(template), device="cpu")
    assert model.tokenizer.decode(model.decoder.prompts.encode(PROMPTS[:1])["input_ids"][0]).endswith(
        "Who? Reply:"
    )


def test_another_processor_and_pixels(checkpoints, tmp_path):
    bare = copy_of(checkpoints["qwen2_5_vl"], tmp_path / "bare", ["token", "processor", "chat_template"])
    with pytest.raises(RememError, match="save one beside the weights"):
        RememHF(str(bare), device="cpu")
    model = RememHF(str(bare), processor=str(checkpoints["qwen2_5_vl"]), device="cpu")
    small = RememHF(str(checkpoints["qwen2_5_vl"]), device="cpu", min_pixels=32**2, max_pixels=32**2)
    shapes = [one.decoder.prompts.encode(PROMPTS[:1])["image_grid_thw"].tolist() for one in (model, small)]
    assert shapes == [[[1, 14, 14]], [[1, 8, 8]]]


def test_device_map_and_system_prompt(remem_data, checkpoints):
    def input_tokens(**arguments):
        model = RememHF(str(checkpoints["llava"]), **arguments)
        assert str(model.device) == "cpu"
        samples = run(model, "remem_forget1", limit=1, gen_kwargs="max_new_tokens=2")["samples"][
            "remem_forget1"
        ]
        return samples[0]["token_counts"][0]["input_tokens"]

    plain, mapped = input_tokens(device="cpu"), input_tokens(device_map="cpu")
    assert plain == mapped < input_tokens(device="cpu", system_prompt="Be brief.")


@pytest.mark.parametrize(
    ("token", "said"), [("badger", "answer holds 'badger'"), ("pet of", "question holds 'pet of'")]
)
def test_a_special_token_of_this_checkpoint_in_any_row_is_refused_before_the_first_reply(
    tiny, remem_data, monkeypatch, token, said
):
    """No list of other families' tokens knows it, and its row may come last."""
    model = tiny()
    model.processor.tokenizer.add_special_tokens({"additional_special_tokens": [token]})
    monkeypatch.setattr(RememHF, "_work", lambda *args: pytest.fail("a reply was made"))
    with pytest.raises(
        RememError, match=rf"split 'forget2', row \d+ .*: {said}, a special token of this checkpoint"
    ):
        run(model, "remem_forget2")


def test_a_picture_named_by_its_file_is_what_the_file_shows(tmp_path):
    """Replies are kept by what was asked: a file that shows something else is another question."""
    shown = []
    for colour in ("red", "blue"):
        Image.new("RGB", (4, 4), colour).save(tmp_path / "a.png")
        [part] = content_of([{"type": "image", "url": str(tmp_path / "a.png")}], "row")
        shown.append(part["image"].getpixel((0, 0)))
    assert shown == [(255, 0, 0), (0, 0, 255)]
