"""Processor, tokenizer and chat template of a checkpoint: what is sent, and when a reply ends."""

from __future__ import annotations

import json
from pathlib import Path

from frame import Fault, World, cut, edit_json, overwrite, remove

TEMPLATE = "chat_template.jinja"
PROCESSOR = "processor_config.json"
TOKENIZER = "tokenizer.json"


def scored(name: str, change, says: str = "", kind: str = "prompts", **more) -> Fault:
    return Fault(kind, name, lambda world: world.score(world.checkpoint(change)), says, **more)


def template(text: str):
    return overwrite(TEMPLATE, text)


def replaced(old: str, new: str):
    """The checkpoint's own template with a part of it replaced."""

    def change(folder: Path) -> None:
        text = (folder / TEMPLATE).read_text()
        assert old in text, text
        (folder / TEMPLATE).write_text(text.replace(old, new))

    return change


def tokenizer(change):
    """`change(parsed tokenizer.json)` in place."""

    def apply(folder: Path) -> None:
        whole = json.loads((folder / TOKENIZER).read_text())
        change(whole)
        (folder / TOKENIZER).write_text(json.dumps(whole))

    return apply


def with_arguments(name: str, argument, says: str, **more) -> Fault:
    """A `--model_args` that is off: `argument(world)` gives it."""
    return Fault("arguments", name, lambda world: world.score(args=argument(world)), says, **more)


def file_given(text: str | bytes):
    def argument(world: World) -> str:
        overwrite("given.jinja", text)(world.folder)
        return f"chat_template={world.folder / 'given.jinja'}"

    return argument


HEAD = "{% for m in messages %}{% for p in m['content'] %}"
TAIL = "{% endfor %}{% endfor %}{% if add_generation_prompt %} A:{% endif %}"
PARTS = "{% if p['type']=='image' %}<image>{% else %}{{ p['text'] }}{% endif %}"

FAULTS = [
    scored("no template", lambda f: (remove(TEMPLATE)(f), edit_if(f)), "chat template"),
    scored("an empty template", template(""), "template"),
    scored("a template that is a text", template("Who is this? A:"), "drops"),
    scored(
        "a template that drops the question",
        template(HEAD + "{% if p['type']=='image' %}<image>{% endif %}" + TAIL),
        "question",
    ),
    scored("a template that drops the picture", template(HEAD + "{{ p['text'] }}" + TAIL), "picture"),
    scored(
        "a template that cuts the question's end",
        template(HEAD + PARTS.replace("p['text']", "p['text'][:20]") + TAIL),
        "end of the question",
    ),
    scored(
        "a template that cuts the question's beginning",
        template(HEAD + PARTS.replace("p['text']", "p['text'][-20:]") + TAIL),
        "beginning of the question",
    ),
    scored(
        "a template that drops the answer",
        template(
            "{% for m in messages %}{% if m['role']=='user' %}{% for p in m['content'] %}"
            + PARTS
            + "{% endfor %}{% endif %}{% endfor %} A:"
        ),
        "answer",
    ),
    scored(
        "a template that cuts long questions",
        template(HEAD + PARTS.replace("p['text']", "p['text'][:900]") + TAIL),
        "question",
    ),
    scored(
        "a template in lower case letters alone",
        template(HEAD + PARTS.replace("p['text']", "p['text']|length") + TAIL),
        "question",
    ),
    scored(
        "a template that two pictures share",
        template(HEAD + PARTS.replace("<image>", "<image><image>") + TAIL),
        "",
    ),
    scored("a template that does not parse", template("{% for m in messages %}"), "template"),
    scored("a template that divides by zero", template("{{ 1 / 0 }}"), "template"),
    scored("a template that raises", template("{{ raise_exception('no\nno') }}"), "template"),
    scored(
        "a template that reaches for the system",
        template("{{ ().__class__.__base__.__subclasses__() }}"),
        "template",
    ),
    scored("a template that opens a file", template("{% include '/etc/passwd' %}"), "template"),
    scored("a template of bytes", overwrite(TEMPLATE, b"\xff\xfe\x00"), ""),
    # Files of the processor
    *(
        scored(f"{file} is {told}", change(file), "processor|tokenizer", "processor")
        for file in (PROCESSOR, TOKENIZER, "tokenizer_config.json")
        for told, change in (
            ("gone", remove),
            ("cut", cut),
            ("empty", lambda f: overwrite(f, "")),
            ("a list", lambda f: overwrite(f, "[]")),
            ("nested deep", lambda f: overwrite(f, "[" * 100_000)),
        )
        if not (file == "tokenizer_config.json" and told == "gone")
    ),
    *(
        scored(told, edit_json(PROCESSOR, **change), "", "processor")
        for told, change in {
            "a mean of two channels": {"image_processor__image_mean": [0.5, 0.5]},
            "a deviation of two channels": {"image_processor__image_std": [0.5, 0.5]},
            "a deviation of 0": {"image_processor__image_std": [0.0, 0.0, 0.0]},
            "a mean that is NaN": {"image_processor__image_mean": [float("nan")] * 3},
            "a mean that is text": {"image_processor__image_mean": "half"},
            "a scale of infinity": {"image_processor__rescale_factor": float("inf")},
            "a scale of 0": {"image_processor__rescale_factor": 0.0},
            "other patches": {"patch_size": 7},
            "patches of 0": {"patch_size": 0},
            "patches that are text": {"patch_size": "large"},
            "a size of 0": {
                "image_processor__size": {"height": 0, "width": 0},
                "image_processor__crop_size": {"height": 0, "width": 0},
            },
            "another size": {
                "image_processor__size": {"shortest_edge": 112},
                "image_processor__crop_size": {"height": 112, "width": 112},
            },
            "a picture token that is none": {"image_token": "<no_such>"},
            "a processor class that is none": {"processor_class": "NoSuchProcessor"},
        }.items()
    ),
    scored(
        "a tokenizer without tokens",
        tokenizer(lambda t: t["model"].update(vocab={}, merges=[])),
        "",
        "processor",
    ),
    scored(
        "a tokenizer with a token above the model's",
        tokenizer(lambda t: t["model"]["vocab"].update(more=10**6)),
        "token",
        "processor",
    ),
    scored(
        "a token whose number is a text",
        tokenizer(lambda t: t["model"]["vocab"].update(more="x")),
        "",
        "processor",
    ),
    # End tokens
    *(
        scored(
            f"an end token of {value!r}"[:60],
            edit_json("generation_config.json", eos_token_id=value),
            "eos_token_id",
            "ends",
        )
        for value in ("</s>", 10**6, -1, 1.5, True, [2, "x"], {"a": 1})
    ),
    scored("no end token in the tokenizer", lambda folder: _no_end(folder), "end token", "ends"),
    scored("a generation configuration that is cut", cut("generation_config.json"), "", "ends"),
    scored(
        "a generation configuration that is a list", overwrite("generation_config.json", "[]"), "", "ends"
    ),
    scored(
        "a temperature that is a text",
        edit_json("generation_config.json", temperature="hot", do_sample=True),
        "",
        "ends",
    ),
    # What is given on the command line
    with_arguments("a template that is not there", lambda w: "chat_template=nowhere.jinja", "no such file"),
    with_arguments("a template of bytes that is given", file_given(b"\xff\xfe\x00"), "given.jinja"),
    with_arguments(
        "a given template that drops the picture", file_given(HEAD + "{{ p['text'] }}" + TAIL), "picture"
    ),
    *(
        with_arguments(f"an empty {name}", lambda w, name=name: f"{name}=", "empty")
        for name in ("processor", "chat_template", "cache", "system_prompt", "revision", "device_map")
    ),
    with_arguments("an unknown argument", lambda w: "no_such=1", "no_such"),
    with_arguments("an unknown dtype", lambda w: "dtype=float3", "dtype"),
    with_arguments("a batch of 0", lambda w: "batch_size=0", "batch_size"),
    with_arguments("a batch of ²", lambda w: "batch_size=²", "batch_size"),
    with_arguments("a batch of -1", lambda w: "batch_size=-1", "batch_size"),
    with_arguments("a largest batch of 0", lambda w: "max_batch_size=0", "max_batch_size"),
    with_arguments("a largest batch that is text", lambda w: "max_batch_size=many", "max_batch_size"),
    with_arguments("an attention that is none", lambda w: "attn_implementation=none_such", "none_such"),
    with_arguments("a processor that is not there", lambda w: "processor=/nowhere/at/all", "nowhere"),
    with_arguments("pixels of a processor that has none", lambda w: "max_pixels=100", "max_pixels"),
    with_arguments("a device that is none", lambda w: "device=moon", "moon"),
    with_arguments("a device that is not there", lambda w: "device=cuda:7", "cuda"),
    with_arguments("a placement that is none", lambda w: "device_map=none_such", "none_such"),
]


def edit_if(folder: Path) -> None:
    """No template in the tokenizer's configuration either."""
    path = folder / "tokenizer_config.json"
    whole = json.loads(path.read_text())
    whole.pop("chat_template", None)
    path.write_text(json.dumps(whole))


def _no_end(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            whole = json.loads((folder / name).read_text())
            whole.pop("eos_token", None)
            (folder / name).write_text(json.dumps(whole))
