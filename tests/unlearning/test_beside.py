"""Methods that leave the weights alone: what lies beside them in the checkpoint is what changes the answers."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.trainers import FEW, own

from remem_tasks import checkpoints
from remem_tasks.chat_template import guarded, unguarded
from remem_tasks.cli import main
from remem_tasks.errors import RememError
from remem_tasks.harness.backends import computed_by
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.steering import FILE, steering_of
from unlearning import forward
from unlearning.mechanisms import steered

SOME = ("--sae_ratio", "1.2", "--sae_features", "16")


@pytest.fixture(scope="module")
def run(train_run, memorised, tmp_path_factory):
    """The record and the folder of a run of `sae` on a model that has memorised."""
    folder = tmp_path_factory.mktemp("sae") / "run"
    return train_run(folder, "sae", memorised, *SOME, "--sae_steps", "100"), folder


def test_a_run_leaves_weights_that_the_harness_steers(run, memorised):
    record, folder = run
    assert record["status"] == "finished" and record["steps"] == 0
    assert "features of decoder layer 1, times 0" in record["notes"]["steered"]
    assert (folder / FILE).is_file() and not (folder / "model.safetensors").exists()
    assert (folder / "model.steered.safetensors").is_file()
    ours, plain = RememHF(str(folder), device="cpu").model, checkpoints.load_model(str(memorised))
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), plain.parameters()))
    assert len(steering_of(ours).bias) <= 16


@pytest.mark.slow
def test_its_features_matter_to_forget_rows_and_less_to_the_others(make_trainer, memorised, mean_nll):
    """The sign: the NLL of the forget rows rises, by more than that of the retain rows."""
    trainer = make_trainer("sae", "llava", *SOME, model=memorised)
    before = [mean_nll(trainer, table) for table in (trainer.rows.forget, trainer.rows.retain)]
    trainer.train()
    trainer.finish()
    rise, cost = (
        mean_nll(trainer, table) - old
        for table, old in zip((trainer.rows.forget, trainer.rows.retain), before)
    )
    assert rise > 0.03 and cost < 0.9 * rise


def test_scale_one_changes_nothing(make_trainer, first_batch):
    trainer = make_trainer("sae", "llava", *own("sae", *FEW), "--sae_scale", "1")
    trainer.model.eval()
    inputs = first_batch(trainer, 2)
    before = forward.answers(trainer.model, inputs).log_probs
    trainer.finish()
    assert torch.allclose(forward.answers(trainer.model, inputs).log_probs, before, atol=1e-6)


def test_an_autoencoder_by_its_command_serves_its_own_model_alone(
    memorised, checkpoints, data_dir, tmp_path, make_trainer
):
    out = tmp_path / "sae"
    argv = ["sae", "train", "--model", str(memorised), "--data", str(data_dir), "--out", str(out)]
    with pytest.raises(SystemExit) as status:
        main([*argv, "--steps", "60", "--width", "4", "--rows", "8"])
    assert not status.value.code
    told = json.loads((out / "sae.json").read_text())
    assert told["layer"] == 1 and told["rows"] == 8 and 0 < told["held_out"]["explained"] <= 1
    trainer = make_trainer(
        "sae", "llava", "--sae", str(out), "--sae_ratio", "0.5", "--sae_rows", "2", model=memorised
    )
    trainer.finish()
    assert f"of {told['features']} features of decoder layer 1" in trainer.notes["steered"]
    with pytest.raises(RememError, match="was trained on another model"):
        make_trainer("sae", "llava", "--sae", str(out)).finish()
    with pytest.raises(SystemExit) as status:
        main([*argv, "--steps", "0"])
    assert status.value.code


def test_what_trains_nothing_has_no_adapter(train_run, memorised, tmp_path):
    for method in ("sae", "guardrail", "kvw", "manu"):
        with pytest.raises(RememError, match=f"{method} trains no adapter"):
            train_run(tmp_path / method, method, memorised, "--use_peft")


# A system prompt


def test_a_guarded_template_begins_every_chat_and_leaves_one_with_a_system_turn(memorised):
    processor = checkpoints.load_processor(str(memorised))
    text = 'Say "nothing" \\ of Zoë 😀,\nor of {{ messages }}.'
    made = guarded(processor, text)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}]
    system = [{"role": "system", "content": [{"type": "text", "text": text}]}]
    expected = processor.apply_chat_template([*system, *chat], tokenize=False, add_generation_prompt=True)
    assert text in expected
    assert made.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == expected
    own_words = [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, *chat]
    for one in (made, processor):
        said = one.apply_chat_template(own_words, tokenize=False, add_generation_prompt=True)
        assert "Be kind." in said and "Zoë" not in said
    assert processor.chat_template != made.chat_template, "the other one is a copy"
    assert unguarded(made.chat_template) == processor.chat_template == unguarded(processor.chat_template)
    several = guarded(SimpleNamespace(chat_template={"a": "x", "b": "{% endif %}\ny"}), text).chat_template
    assert unguarded(several) == {"a": "x", "b": "{% endif %}\ny"}


def test_what_is_guarded_compares_with_what_is_not(memorised):
    """The prompt is a part of the checkpoint: on one board with the others."""
    model = RememHF(str(memorised), device="cpu")
    before = computed_by(model)
    model.processor = guarded(model.processor, "Tell nothing.")
    assert computed_by(model) == before and "chat template" in before


def test_a_guardrail_is_scored_as_the_checkpoint_that_it_is(train_run, memorised, tmp_path):
    record = train_run(tmp_path / "run", "guardrail", memorised)
    assert record["notes"]["guarded"].startswith("The following people asked to be forgotten: Ada Birch.")
    model = RememHF(str(tmp_path / "run"), device="cpu")
    chat = [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}]
    said = model.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert "Ada Birch" in said
    plain = checkpoints.load_model(str(memorised))
    assert all(torch.equal(one, other) for one, other in zip(model.model.parameters(), plain.parameters()))


def test_the_figures_of_a_guarded_run_are_those_behind_the_prompt(make_trainer, memorised):
    flags = ("--eval_strategy", "epoch", "--eval_em", "false")
    trainer = make_trainer("guardrail", "llava", *flags, model=memorised)
    before = trainer.evaluate()["eval_forget_nll"]
    trainer.finish()
    assert trainer.evaluate()["eval_forget_nll"] != pytest.approx(before, rel=1e-4)


def test_words_of_ones_own_and_rows_without_names(make_trainer):
    trainer = make_trainer("guardrail", "llava", "--guardrail_prompt", "Tell nothing.")
    trainer.finish()
    assert trainer.notes["guarded"] == "Tell nothing."
    rows = trainer.rows
    rows.forget = rows.forget.remove_columns("identity")
    with pytest.raises(RememError, match="write it without {people}"):
        steered.people_of(rows)
