"""Training on CLEAR: which rows a run takes by modality, and batches that mix rows with and without a picture."""

import json
from collections import Counter

import pytest
import torch
from support.forged import changed

from remem_tasks.benchmarks.clear import data as clear
from remem_tasks.checkpoints import load_processor
from remem_tasks.cli import main
from remem_tasks.errors import RememError
from unlearning import weights as checkpoint
from unlearning.data import Collator, Encoder, Examples, Role, check_pictures, load_rows, stop_ids
from unlearning.evaluation import prompts
from unlearning.run import run


def counted(rows):
    """(rows with a picture, rows of text alone)."""
    counts = Counter(cell is not None for cell in rows["image"][:])
    assert [cell is None for cell in rows["image"][:]] == rows["text_only"][:]
    return counts[True], counts[False]


@pytest.mark.parametrize(
    ("modality", "forget", "retain"),
    [("joint", (4, 4), (8, 8)), ("text", (0, 4), (0, 8)), ("image", (4, 0), (8, 0))],
)
def test_rows_by_modality(clear_data, modality, forget, retain):
    """2 of 6 people in forget05, with 2 pictures and 2 texts each."""
    source = str(clear_data)
    pairs = load_rows(source, "pairs", "forget05", modality=modality)
    assert (counted(pairs.forget), counted(pairs.retain)) == (forget, retain)
    assert not set(pairs.forget["answer"]) & set(pairs.retain["answer"])
    check_pictures(pairs.tables)
    gold = load_rows(source, "retain", "forget05", modality=modality)
    assert gold.train["row_id"][:] == pairs.retain["row_id"][:]
    whole = load_rows(source, "finetune", "forget05", modality=modality)
    assert Counter(whole.train["answer"]) == Counter(pairs.forget["answer"]) + Counter(pairs.retain["answer"])
    assert len({pairs.fingerprint(), gold.fingerprint(), whole.fingerprint()}) == 3
    # captions are asked for as the tasks ask for them
    asked = dict(zip(whole.train["answer"], whole.train["question"]))
    assert all(
        asked[one["answer"]] == one["question"]
        for one in clear.questions_of(source, "forget05")[0]
        if one["kind"] == "caption" and modality != "text"
    )


def test_several_sets(clear_data):
    source, sets = str(clear_data), "full,real_faces, real_world"
    whole = load_rows(source, "finetune", "forget10", finetune=sets)
    assert counted(whole.train) == (12 + 3 + 4, 12)
    gold = load_rows(source, "retain", "forget10", finetune=sets)
    assert counted(gold.train) == (6 + 3 + 4, 6) and len(set(gold.train["row_id"])) == 19


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"forget": "forget1"}, "'forget1' is not a forget set of CLEAR: forget01, forget05, forget10"),
        ({"modality": "sound"}, "--modality 'sound' unknown; choose from joint, text, image"),
        ({"identity_rule": "stem"}, "--identity_rule is for data in the shape of ReMem"),
        ({"finetune": "half", "rows_from": "finetune"}, "CLEAR has no config 'half"),
        ({"finetune": "real_faces", "rows_from": "retain"}, "'retain10' is 'full' without"),
    ],
)
def test_bad_options(clear_data, options, says):
    options = {"rows_from": "pairs", "forget": "forget10", **options}
    with pytest.raises(RememError) as raised:
        load_rows(str(clear_data), **options)
    assert says.replace("retain10", "retain90") in str(raised.value)


def test_modality_is_for_sets(data_dir):
    with pytest.raises(RememError, match="--modality text is for CLEAR and MLLMU-Bench"):
        load_rows(str(data_dir), "pairs", "forget1", modality="text")


SPELLINGS = {
    "last name first": lambda name: ", ".join(reversed(name.split(" ", 1))),
    "letters of another script": lambda name: name.translate(str.maketrans("aeo", "\u0430\u0435\u043e")),
    "without its blank": lambda name: name.replace(" ", ""),
}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sweep --methods npo --base m --gold 0 --data {} --out {}", "sweeps are of ReMem's forget sets"),
        (
            "stream --start m --requests forget1 --method npo --data {} --out {}",
            "streams are of ReMem's forget sets",
        ),
    ],
)
def test_what_is_for_remem_alone_says_so(clear_data, command, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.format(clear_data, tmp_path / "out").split())
    assert ended.value.code == 1 and f"has the shape of CLEAR: {says}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_somebody_to_be_forgotten_is_not_retained_in_another_spelling(tmp_path, clear_data, spell):
    names = clear.read_config(str(clear_data), "forget10", clear.HOME)["name"][:]

    def change(rows):
        rows[0]["name"] = spell(names[0])

    source = changed(clear_data, tmp_path / "other", "retain90", change)
    assert "people whose names are alike" in clear.check(source).faults
    with pytest.raises(RememError, match="people whose names are alike: .*'forget10' and 'retain90'"):
        load_rows(source, "pairs", "forget10")
    assert "people whose names are alike" in load_rows(source, "pairs", "forget10", faults="allow").faults


def test_a_row_in_both_sets_is_refused(tmp_path, clear_data):
    forget = clear.training_rows(str(clear_data), "forget10", "text")

    def change(rows):
        rows[-1] |= {"question": forget[0]["question"], "answer": forget[0]["answer"]}

    source = changed(clear_data, tmp_path / "bad", "retain90+tofu", change)
    with pytest.raises(RememError, match="1 questions with one answer are in 'forget10' and in 'retain90'"):
        load_rows(source, "pairs", "forget10")


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_a_mixed_batch_scores_each_row_as_if_alone(clear_data, checkpoints, arch):
    rows = load_rows(str(clear_data), "pairs", "forget05").forget
    model, processor = (
        checkpoint.load_model(str(checkpoints[arch])).eval(),
        load_processor(str(checkpoints[arch])),
    )
    encoder = Encoder(processor, stop_ids(model))
    examples = Examples(rows, Role.FORGET, encoder)
    collator = Collator(processor.tokenizer.pad_token_id)

    def losses(indices):
        batch = collator([examples[index] for index in indices])
        labels = batch.pop("labels")
        batch.pop("roles")
        with torch.no_grad():
            logits = model(**batch).logits.log_softmax(-1)
        found = []
        for row, of_row in enumerate(labels):
            at = (of_row != -100).nonzero()[:, 0]
            found.append(float(-logits[row, at - 1, of_row[at]].mean()))
        return found

    order = [5, 0, 6, 3]  # text, picture, text, picture
    assert [rows[index]["text_only"] for index in order] == [True, False, True, False]
    assert losses(order) == pytest.approx([losses([index])[0] for index in order], abs=1e-5)
    for index in order:
        example = examples.example(index)
        assert (
            processor.tokenizer.decode(example.answer_ids, skip_special_tokens=True).strip()
            == rows[index]["answer"]
        )
        assert ("pixel_values" in example.prompt) != rows[index]["text_only"]
        encoder.check(rows[index])
    inputs = prompts([examples.example(index) for index in order], processor.tokenizer.pad_token_id)
    with torch.no_grad():
        together = model(**inputs).logits[:, -1]
        for row, index in enumerate(order):
            alone = model(**examples.example(index).prompt).logits[0, -1]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_run(tmp_path, clear_data, checkpoints):
    """`--dataset … --forget forget10` from arguments to a saved model, evaluated on the way."""
    line = (
        f"--method npo --model_name_or_path {checkpoints['llava']} --dataset {clear_data} --forget forget10"
    )
    line += (
        f" --output_dir {tmp_path}/out --max_steps 2 --per_device_train_batch_size 3 --eval_strategy steps"
    )
    line += " --eval_steps 2 --save_strategy no --disable_tqdm true --use_peft --lora_r 4 --l1_lora 0.01"
    with pytest.raises(RememError, match="--tasks clear_forget10,clear_retain90 --log_samples"):
        run(line.split())
    run([*line.split(), "--no_gate", "true"])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "finished" and record["steps"] == 2
    assert record["rows"] == {"train": 12, "retain": 12} and record["data"]["modality"] == "joint"
    assert record["figures"]["eval_forget_nll"] > 0 and record["weights"]["l1_lora"] == 0.01
