"""What stands between a row and the model: processor, tokenizer, chat template, generation settings."""

from __future__ import annotations

import json

from frame import Fault, cut, edit_json, overwrite, remove

KIND = "prompts"
TEMPLATE = "chat_template.jinja"
QUESTION = "{% for p in m.content if p.type == 'text' %}"
IMAGE = "{% for p in m.content if p.type == 'image' %}<image>{% endfor %}"


def scored(name: str, change, says: str = "", **more) -> Fault:
    return Fault(KIND, name, lambda world: world.score(world.checkpoint(change)), says, **more)


def template(text: str):
    return overwrite(TEMPLATE, "{% for m in messages %}" + text + "{% endfor %} ASSISTANT:")


def processor(**changes):
    """Sets keys of the image processor's settings, wherever they stand."""

    def change(folder):
        for name in ("processor_config.json", "preprocessor_config.json"):
            if not (folder / name).is_file():
                continue
            whole = json.loads((folder / name).read_text())
            whole.get("image_processor", whole).update(changes)
            (folder / name).write_text(json.dumps(whole))

    return change


def tokenizer(change):
    """Edits tokenizer.json."""

    def apply(folder):
        whole = json.loads((folder / "tokenizer.json").read_text())
        change(whole)
        (folder / "tokenizer.json").write_text(json.dumps(whole))

    return apply


def _ends(value):
    return edit_json("generation_config.json", eos_token_id=value)


FAULTS = [
    scored("no template", remove(TEMPLATE), "template"),
    scored("an empty template", overwrite(TEMPLATE, ""), "template"),
    scored("a template that is no UTF-8", overwrite(TEMPLATE, b"\xff\xfe\x00{"), ""),
    scored("a template with a syntax error", overwrite(TEMPLATE, "{% for m in %}"), "template"),
    scored("a template that raises", overwrite(TEMPLATE, "{{ raise_exception('no') }}"), "template"),
    scored("a template that divides by zero", overwrite(TEMPLATE, "{{ 1 / 0 }}"), "template"),
    scored("the question is dropped", template(f"{IMAGE}\nUSER: What?"), "drops .*question"),
    scored("the picture is dropped", template(QUESTION + "{{ p.text }}{% endfor %}"), "drops the picture"),
    scored("everything is dropped", template("USER: hello"), "drops"),
    *(
        scored(
            f"the question is cut {name}",
            template(f"{IMAGE}{QUESTION}{{{{ p.text[{part}] }}}}{{% endfor %}}"),
            "drops .*question",
        )
        for name, part in {
            "to 20 characters": ":20",
            "to 200 characters": ":200",
            "to 2,000 characters": ":2000",
            "to its last 30 characters": "-30:",
            "after its first 30 characters": "30:",
        }.items()
    ),
    scored(
        "the answer is dropped",
        template("{% if m.role == 'user' %}" + IMAGE + QUESTION + "{{ p.text }}{% endfor %}{% endif %}"),
        "answer",
    ),
    Fault(
        KIND,
        "a system prompt that the template drops",
        lambda w: w.score(
            w.checkpoint(
                template(
                    "{% if m.role != 'system' %}" + IMAGE + QUESTION + "{{ p.text }}{% endfor %}{% endif %}"
                )
            ),
            args="system_prompt=Be_brief",
        ),
        "system",
    ),
    Fault(
        KIND,
        "a template that is not there",
        lambda w: w.score(w.checkpoint(), args="chat_template=/no/file"),
        "/no/file",
    ),
    scored(
        "no processor",
        lambda f: [(f / n).unlink() for n in ("processor_config.json",) if (f / n).is_file()],
        "",
    ),
    scored("the processor's config is cut", cut("processor_config.json"), "processor"),
    scored("the processor's config is a list", overwrite("processor_config.json", "[]"), "processor"),
    scored(
        "another processor's class", edit_json("processor_config.json", processor_class="NoSuchProcessor"), ""
    ),
    *(
        scored(f"statistics: {name}", processor(**changes))
        for name, changes in {
            "a mean of two": {"image_mean": [0.5, 0.5]},
            "a mean of four": {"image_mean": [0.5] * 4},
            "a deviation of two": {"image_std": [0.2, 0.2]},
            "no mean": {"image_mean": []},
            "a mean of texts": {"image_mean": ["a", "b", "c"]},
            "a deviation of zero": {"image_std": [0, 0, 0]},
        }.items()
    ),
    *(
        scored(f"geometry: {name}", change)
        for name, change in {
            "smaller pictures": processor(
                size={"height": 40, "width": 40}, crop_size={"height": 40, "width": 40}
            ),
            "larger pictures": processor(
                size={"height": 112, "width": 112}, crop_size={"height": 112, "width": 112}
            ),
            "no size": processor(size={}, crop_size={}),
            "a size of zero": processor(size={"height": 0, "width": 0}, crop_size={"height": 0, "width": 0}),
            "a negative size": processor(size={"height": -56, "width": 56}),
            "a size that is a text": processor(size="large"),
            "smaller patches": edit_json("processor_config.json", patch_size=4),
            "no patch size": edit_json("processor_config.json", patch_size=None),
            "patches of zero": edit_json("processor_config.json", patch_size=0),
            "another strategy": edit_json("processor_config.json", vision_feature_select_strategy="full"),
            "more picture tokens": edit_json("processor_config.json", num_additional_image_tokens=5),
            "another picture token": edit_json("processor_config.json", image_token="<pad>"),
            "a picture token that is no token": edit_json("processor_config.json", image_token="<no such>"),
        }.items()
    ),
    scored("no tokenizer", lambda f: [n.unlink() for n in f.glob("tokenizer*")], ""),
    scored("the tokenizer is cut", cut("tokenizer.json"), ""),
    scored("the tokenizer is empty", overwrite("tokenizer.json", "{}"), ""),
    scored("the tokenizer's config is a list", overwrite("tokenizer_config.json", "[]"), ""),
    scored("a tokenizer without merges", tokenizer(lambda t: t["model"].update(merges=[])), counted="none"),
    scored(
        "a token above the model's",
        tokenizer(
            lambda t: t["added_tokens"].append({**t["added_tokens"][0], "id": 9_999, "content": "<x>"})
        ),
    ),
    scored("no end token", edit_json("tokenizer_config.json", eos_token=None), ""),
    *(
        scored(f"end token: {value!r}", _ends(value), "")
        for value in ("</s>", -1, 10**6, 1.5, [1, "x"], [], {"a": 1}, True, [[1]])
    ),
    scored("the generation config is cut", cut("generation_config.json"), ""),
    scored("the generation config is a list", overwrite("generation_config.json", "[]"), ""),
    scored(
        "the generation config holds a number of 5,000 digits",
        overwrite("generation_config.json", '{"eos_token_id": ' + "9" * 5000 + "}"),
        "",
    ),
]
