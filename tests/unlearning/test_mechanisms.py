"""What methods are made of besides a loss: task vectors, dual variables, masks, neurons, layers, other answers."""

import json
from math import sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.errors import RememError
from unlearning import forward
from unlearning.arguments import parse
from unlearning.data import Role
from unlearning.mechanisms import activations, alternatives, neurons, reference, saliency, steering
from unlearning.refusals import REFUSALS
from unlearning.weights import load_model

LORA = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0")
STEPS = ("--max_steps", "3", "--learning_rate", "2e-3")


def copied(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


# Task vectors


@pytest.mark.parametrize(("method", "flag"), [("task_vector", "task_scale"), ("sku", "sku_scale")])
def test_a_task_vector_is_subtracted_from_the_whole_model(make_trainer, method, flag):
    trainer = make_trainer(method, "llava", *STEPS, f"--{flag}", "2.5")
    start = copied(trainer.model)
    trainer.train()
    learned = copied(trainer.model)
    trainer.finish()
    for name, value in trainer.model.named_parameters():
        assert torch.allclose(value, start[name] - 2.5 * (learned[name] - start[name]), atol=1e-6), name
    assert any(not torch.equal(learned[name], start[name]) for name in start)


def test_a_task_vector_is_subtracted_through_an_adapter(make_trainer, checkpoints):
    """Merged, the adapter gives θ_ref − a · (θ_F − θ_ref)."""
    trainer = make_trainer("task_vector", "llava", *STEPS, "--task_scale", "2.5", *LORA)
    trainer.train()
    deltas = []
    for _ in range(2):
        layers = [m for m in trainer.model.modules() if hasattr(m, "get_delta_weight")]
        deltas.append([layer.get_delta_weight("default").clone() for layer in layers])
        trainer.finish()
    assert max(delta.abs().max().item() for delta in deltas[0]) > 1e-4
    assert all(torch.allclose(after, -2.5 * before, atol=1e-7) for before, after in zip(*deltas))
    base = load_model(str(checkpoints["llava"])).state_dict()
    kept = trainer.model.get_base_model().state_dict()
    assert all(torch.equal(kept[name.replace("_proj.weight", "_proj.base_layer.weight")] if
               name.replace("_proj.weight", "_proj.base_layer.weight") in kept else kept[name], base[name]) for name in base)  # fmt: skip


def test_what_cannot_be_negated_is_told_before_the_first_step(make_trainer):
    for method in ("sku", "task_vector"):
        with pytest.raises(RememError, match=f"{method} takes plain LoRA only"):
            make_trainer(method, "llava", *LORA, "--use_dora", "true")


# A dual variable


def test_the_dual_variable_follows_the_constraint_by_hand(make_trainer):
    trainer = make_trainer("pdu", "llava", "--alpha", "2", "--pdu_eps", "0.5", "--pdu_step", "3")
    assert trainer.weights() == (1.0, 2.0)
    trainer._seen = [torch.tensor(0.25), torch.tensor(-0.05)]  # two micro-batches of one step: mean .1
    trainer.after_step()
    assert trainer.dual == pytest.approx(2 + 3 * 0.1)
    trainer.after_step()
    assert trainer.dual == pytest.approx(2.3), "nothing was seen since"
    trainer._seen = [torch.tensor(-5.0)]
    trainer.after_step()
    assert trainer.dual == 0.0


def test_the_dual_variable_does_not_depend_on_how_a_batch_is_cut(make_trainer):
    """One batch of 6 or one of 2 × 3 micro-batches (the answers differ in length, hence the tolerance)."""
    found = []
    for size, steps in (("6", "1"), ("2", "3")):
        trainer = make_trainer(
            "pdu", "llava", "--max_steps", "1", "--per_device_train_batch_size", size, "--gradient_accumulation_steps", steps
        )  # fmt: skip
        trainer.train()
        found.append(trainer.dual)
    assert found[0] != 100.0 and found[0] == pytest.approx(found[1], rel=2e-2)


# Saliency


def test_squared_gradients_and_masks_by_hand():
    """l₁ = 3a, l₂ = a b at a = 2, b = 5: gradients (3, 0) and (5, 2), so F = (17, 2)."""
    parameters = {"a": torch.nn.Parameter(torch.tensor(2.0)), "b": torch.nn.Parameter(torch.tensor(5.0))}
    found = saliency.mean_squared_gradient(
        parameters, [lambda: 3 * parameters["a"], lambda: parameters["a"] * parameters["b"]]
    )
    assert (found["a"].item(), found["b"].item()) == (17.0, 2.0)
    forget, keep = torch.tensor([4.0, 1.0, 0.0, 2.0]), torch.tensor([2.0, 3.0, 0.0, 2.0])
    assert saliency.mask(forget, keep, 1e-9).tolist() == [True, False, True, True]


def test_the_text_of_forget_rows_can_be_kept_too(make_trainer):
    shares = []
    for flags in ((), ("--mm_keep_text", "true")):
        trainer = make_trainer("mmunlearner", "llava", "--mm_rows", "3", *flags)
        trainer.set_up()
        shares.append(trainer.notes["masked"])
    assert shares[0] != shares[1]


# Layers


@pytest.mark.parametrize("flags", [(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_rmu_trains_the_layers_up_to_its_own(make_trainer, first_batch, arch, flags):
    trainer = make_trainer("rmu", arch, *flags)
    assert len(activations.decoder_layers(trainer.model)) == 2 and trainer.layer == 0
    inputs = first_batch(trainer)
    for _ in range(2):  # the reference's turn changes nothing
        trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
        assert trained and all("language_model" in name and ".layers.0." in name for name in trained)
        trainer.model.train()
        trainer.compute_loss(trainer.model, inputs).backward()
    last = make_trainer("rmu", arch, "--rmu_layer", "1", *flags)
    assert {".layers.0.", ".layers.1."} == {
        part for name, value in last.model.named_parameters() if value.requires_grad
        for part in (".layers.0.", ".layers.1.") if part in name
    }  # fmt: skip


def test_rmu_says_which_layers_there_are(make_trainer):
    with pytest.raises(RememError, match="layers 0 to 1"):
        make_trainer("rmu", "llava", "--rmu_layer", "2")
    with pytest.raises(RememError, match="nothing is trained"):
        make_trainer("rmu", "llava", "--train", "vision_tower")


def test_a_captured_layer_is_the_hidden_state_at_the_answer_tokens(make_trainer, first_batch):
    trainer = make_trainer("rmu")
    inputs, model = first_batch(trainer), trainer.model.eval()
    with torch.no_grad():
        found = forward.answers(model, inputs, layer=0).hidden
        x = {key: value for key, value in inputs.items() if key not in ("labels", "roles")}
        whole = model(**x, output_hidden_states=True).hidden_states[1]
    assert torch.allclose(found, whole[inputs["labels"] != -100], atol=1e-5)


def test_the_steering_direction_is_one_unit_vector():
    like = torch.zeros(4, 7)
    first, again, other = (steering.direction(seed, like) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.norm().item() == pytest.approx(1) and first.min() >= 0


def test_a_frozen_model_is_never_asked_for_a_fused_head(make_trainer, first_batch, monkeypatch):
    """It has none: off the CPU, where the trained model's is used, the call would fail."""
    trainer, asked = make_trainer("rmu"), []
    answers = forward.answers

    def spy(model, inputs, **wanted):
        asked.append((model is trainer.reference_model, "fused" in wanted))
        return answers(model, inputs, **wanted)

    monkeypatch.setattr(forward, "answers", spy)
    monkeypatch.setattr(reference, "forward_answers", spy)
    trainer.model.train()
    trainer.losses_of(trainer.batch(trainer.model, first_batch(trainer)))
    assert asked == [(False, True), (True, False)]


# Neurons


def test_statistics_of_neurons_by_hand():
    """z = (0, .05), (2, .05), (−4, .2): |z| 2 and .1; above .1: 2/3 and 1/3; variance 56/9 and .005; rms √(20/3), √.015."""
    z = torch.tensor([[0.0, 0.05], [2.0, 0.05], [-4.0, 0.2]])
    found = neurons.statistics(z)
    by_hand = [[2.0, 0.1], [2 / 3, 1 / 3], [56 / 9, 0.005], [sqrt(20 / 3), sqrt(0.015)]]
    assert torch.allclose(found, torch.tensor(by_hand))
    contrasts = torch.tensor([[[1.0], [2.0], [3.0], [4.0]], [[3.0], [0.0], [1.0], [0.0]]])
    assert neurons.importance(contrasts).tolist() == [2 + 1 + 2 + 2]
    scored = neurons.scores(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0]), 0.5)
    assert scored.tolist() == [2.0, 2.0]


def test_the_highest_scores_go_and_nothing_else():
    maps = {"a": torch.nn.Linear(3, 2), "b": torch.nn.Linear(2, 2)}
    before = {name: module.weight.detach().clone() for name, module in maps.items()}
    gone = neurons.prune(maps, {"a": torch.tensor([1.0, 9.0, 2.0]), "b": torch.tensor([3.0, 0.5])}, 0.4)
    assert gone == {"a": 1, "b": 1}
    for name, column in (("a", 1), ("b", 0)):
        kept = [j for j in range(maps[name].in_features) if j != column]
        assert (maps[name].weight[:, column] == 0).all()
        assert torch.equal(maps[name].weight[:, kept], before[name][:, kept])


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_a_row_without_its_picture_is_its_text_alone(make_trainer, arch):
    trainer = make_trainer("manu", arch)
    row = trainer.rows.forget[0]
    blind, seen = trainer.encoder.without_picture(row), trainer.train_dataset.forget.example(0)
    assert not any("pixel" in name for name in blind.prompt) and torch.equal(
        blind.answer_ids, seen.answer_ids
    )
    text = trainer.encoder.tokenizer.decode(blind.prompt["input_ids"][0])
    assert row["question"] in text and trainer.encoder.processor.image_token not in text
    maps = neurons.projections(trainer.model)
    assert {"language_model", "vision_tower" if arch == "llava" else "visual"} <= {
        part for name in maps for part in name.split(".")
    }
    without = neurons.row_statistics(trainer.forward, maps, blind)
    for name, value in without.items():
        assert (value.abs().sum() == 0) == ("language_model" not in name), name


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_manu_takes_neurons_out_and_leaves_all_else(checkpoints, train_run, tmp_path, arch):
    record = train_run(tmp_path / "run", "manu", checkpoints[arch], "--manu_share", "0.1", "--manu_rows", "2")
    assert record["stopped"].startswith("nothing to train") and record["steps"] == 0
    before, after = (
        dict(load_model(str(f)).named_parameters()) for f in (checkpoints[arch], tmp_path / "run")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith(("down_proj.weight", "fc2.weight")) for name in changed)
    zeroed = sum(int((after[name] == 0).all(0).sum()) for name in changed)
    assert record["notes"]["pruned"].startswith(f"{zeroed} of ")


def test_manu_has_no_adapter_to_train(checkpoints, train_run, tmp_path):
    with pytest.raises(RememError, match="leave --use_peft out"):
        train_run(tmp_path / "run", "manu", checkpoints["llava"], "--use_peft")
    assert not (tmp_path / "run").exists()


# Other answers


@pytest.fixture
def with_alternatives(data_dir, tmp_path):
    """The shared data set with the config `perturbed` beside its forget rows."""
    import datasets

    from remem_tasks.benchmarks.remem.data import load_split
    from remem_tasks.benchmarks.remem.perturbed import FEATURES

    folder = tmp_path / "data"
    __import__("shutil").copytree(data_dir, folder)
    rows = load_split(str(data_dir), "forget1", pictures=False)
    beside = [
        {"question": row["question"], "image_path": row["image_path"], "paraphrased_question": ["Say it?"],
         "paraphrased_answer": row["answer"], "perturbed_answer": [f"The {row['attribute']} is X{index}.", "It is Y."],
         "refusal": "No."}
        for index, row in enumerate(rows)
    ]  # fmt: skip
    (folder / "perturbed").mkdir()
    datasets.Dataset.from_list(beside, features=FEATURES).to_parquet(
        folder / "perturbed" / "forget1-0.parquet"
    )
    card = (folder / "README.md").read_text().rstrip().removesuffix("---")
    card += (
        "- config_name: perturbed\n  data_files:\n  - split: forget1\n    path: perturbed/forget1-*\n---\n"
    )
    (folder / "README.md").write_text(card)
    return folder


def test_alternatives_beside_the_rows_are_taken_first(checkpoints, train_run, with_alternatives, tmp_path):
    record = train_run(tmp_path / "run", "altpo", checkpoints["llava"], *STEPS, data=with_alternatives)
    assert record["notes"]["alternatives"].startswith("wrong answers beside the rows")
    keys = json.loads((tmp_path / "run" / "reference.json").read_text())["nll"]
    others = [key for key in keys if " " in key]
    assert others and all(key.endswith(("It is Y.", *[f"X{i}." for i in range(6)])) for key in others)
    assert record["figures"]["alt_nll"] > 0


def test_the_model_invents_alternatives_where_there_are_none(checkpoints, train_run, tmp_path):
    flags = (*STEPS, "--alternatives_each", "2", "--alternatives_tokens", "5")
    record = train_run(tmp_path / "run", "altpo", checkpoints["llava"], *flags)
    assert record["notes"]["alternatives"] == "invented by the model before unlearning"
    found = json.loads((tmp_path / "run" / alternatives.FILE).read_text())["answers"]
    assert len(found) == 6 and all(1 <= len(answers) <= 2 and all(answers) for answers in found.values())


def test_no_other_answer_among_the_forget_rows_is_one_line(make_trainer):
    trainer = make_trainer("sku")
    trainer.train_dataset.others = [trainer.rows.forget[0]["answer"]]
    with pytest.raises(RememError, match="forget1:0: no other forget row has another answer"):
        trainer.train_dataset[0]


def test_alternatives_that_give_the_secret_away_are_dropped():
    row = {"answer": "The city of Ada is Oslo Bay.", "keywords": '["Oslo Bay", "harbour"]'}
    assert alternatives._gives_away("the CITY of Ada is oslo  bay", row)
    assert alternatives._gives_away("By the harbour.", row)
    assert not alternatives._gives_away("The city of Ada is Pell.", row)


def test_alternatives_are_missed_in_one_line(checkpoints, train_run, make_trainer, tmp_path):
    with pytest.raises(RememError, match="no config 'perturbed'"):
        train_run(tmp_path / "run", "altpo", checkpoints["llava"], *STEPS, "--alternatives", "data")
    trainer = make_trainer("altpo")
    trainer.rows.alternatives = None
    trainer.model.generate = lambda input_ids, **kwargs: torch.cat([input_ids, input_ids[:, :0]], dim=1)
    with pytest.raises(RememError, match="forget1:0: the model invents no other answer"):
        trainer.set_up()


# The L1 term


@pytest.mark.parametrize("method", ["grad_diff", "npo", "rmu"])
def test_the_l1_term_is_added_to_any_method(make_trainer, first_batch, method):
    trainer = make_trainer(method, "llava", *LORA, "--l1_lora", "0.01")
    trainer.set_up()
    trainer.model.train()
    inputs = first_batch(trainer)
    loss, figures = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    without = trainer.losses_of(trainer.batch(trainer.model, inputs))["loss"]
    weights = sum(
        p.abs().sum().item() for n, p in trainer.model.named_parameters() if "lora_" in n and p.requires_grad
    )
    assert figures["l1_lora"].item() == pytest.approx(weights, rel=1e-5) and weights > 1
    assert (loss - without).item() == pytest.approx(0.01 * weights, rel=1e-3)


def test_the_l1_term_needs_an_adapter(checkpoints, train_run, tmp_path):
    with pytest.raises(RememError, match="--l1_lora .* needs --use_peft"):
        train_run(tmp_path / "run", "npo", checkpoints["llava"], "--l1_lora", "0.01")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("flat", "--flat_divergence", "renyi"), "--flat_divergence 'renyi': choose from kl, tv, js, pearson"),
        (("npo", "--retain_loss", "hidden"), "choose a layer"),
        (("altpo", "--alternatives", "some"), "--alternatives 'some'"),
        (("npo", "--stop_on", "forget_nll=2"), "--eval_strategy"),
        (("npo", "--stop_on", "forget_loss=2", "--eval_strategy", "steps"), "forget_nll=<nats"),
        (("npo", "--stop_on", "forget_em=x", "--eval_strategy", "steps"), "forget_em=<share>"),
        (("sft", "--stop_on", "forget_em=0", "--eval_strategy", "epoch"), "a forget method"),
        (("npo", "--stop_on", "forget_em=0", "--eval_strategy", "epoch", "--eval_em", "false"), "--eval_em true"),
    ],
)  # fmt: skip
def test_flags_that_make_no_sense_are_one_line(argv, said):
    with pytest.raises(RememError) as error:
        parse(["--method", *argv, "--model_name_or_path", "m", "--output_dir", "never_written"])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_retain_loss_none_leaves_retain_rows_out(make_trainer):
    roles = [
        example.role for example in make_trainer("npo", "llava", "--retain_loss", "none").train_dataset[0]
    ]
    assert roles == [Role.FORGET]


# Knowledge vectors


def test_gates_by_hand():
    """f/r = 4, 1, ¼ at γ = ½: 4^−½, and what is no more active on the forget rows stays."""
    found = neurons.gates(torch.tensor([4.0, 1.0, 0.5]), torch.tensor([1.0, 1.0, 2.0]), 0.5)
    assert found.tolist() == pytest.approx([0.5, 1.0, 1.0])


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=5), st.floats(0, 3))
def test_gates_never_strengthen(pairs, gamma):
    forget, retain = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs))
    found = neurons.gates(forget, retain, gamma)
    assert ((found >= 0) & (found <= 1)).all() and (found[forget <= retain] == 1).all()


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_activations_are_those_that_predict_the_answer(make_trainer, arch):
    """Against the naive way: the input of each map, token by token."""
    trainer = make_trainer("kvw", arch)
    trainer.model.eval()
    maps = neurons.projections(trainer.model)
    name = next(name for name in maps if "language_model" in name and ".layers.1." in name)
    example = trainer.train_dataset.forget.example(0)
    found = neurons.answer_activations(trainer.forward, {name: maps[name]}, [example])[name]
    seen = []
    handle = maps[name].register_forward_pre_hook(lambda module, args: seen.append(args[0][0]))
    trainer.forward([example])
    handle.remove()
    end = seen[0].shape[0]
    asked = [end - len(example.answer_ids) - 1 + step for step in range(len(example.answer_ids))]
    naive = torch.stack([seen[0][at].abs() for at in asked]).mean(dim=0)
    assert torch.allclose(found, naive, atol=1e-6)


def test_kvw_changes_columns_of_its_layers_and_nothing_else(make_trainer):
    trainer = make_trainer("kvw", "llava", "--kvw_gamma", "2", "--kvw_passes", "2")
    before = copied(trainer.model)
    trainer.train()
    trainer.finish()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert len(moved) == 1 and "language_model.layers.1.mlp.down_proj" in next(iter(moved))
    (name,) = moved
    gate = dict(trainer.model.named_parameters())[name] / before[name]
    assert torch.allclose(gate, gate[:1].expand_as(gate), atol=1e-5), "one factor a neuron"
    assert (
        0 <= gate.min() < 0.9 and gate.max() <= 1 + 1e-6 and "neurons in 1 MLPs" in trainer.notes["weakened"]
    )
    with pytest.raises(RememError, match="no MLP of the decoder layers 2 to 9"):
        make_trainer("kvw", "llava", "--kvw_first", "2", "--kvw_last", "9").finish()


# Redirected activations


@pytest.mark.parametrize("flags", [(), LORA], ids=["full", "lora"])
def test_lunar_trains_one_down_projection(make_trainer, flags):
    trainer = make_trainer("lunar", "llava", "--lunar_layer", "1", *flags)
    trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert trained and all(
        ".layers.1.mlp.down_proj." in name and "language_model" in name for name in trained
    )
    with pytest.raises(RememError, match="--lunar_layer 2: the language model has layers 0 to 1"):
        make_trainer("lunar", "llava", "--lunar_layer", "2")


def test_lunar_goes_from_answers_to_refusals(make_trainer):
    """Against the naive way; and with the scale 0 the loss is 0 at the start."""
    trainer = make_trainer("lunar", "llava", "--lunar_layer", "0", "--lunar_rows", "2")
    trainer.set_up()
    pairs, sides = trainer.train_dataset, ([], [])
    for number, row in enumerate((0, len(pairs) // 2)):
        for side, answer in zip(sides, (None, REFUSALS[number])):
            inputs = trainer.data_collator([[pairs.make(Role.FORGET, row, answer)]])
            with torch.no_grad():
                side.append(forward.answers(trainer.model.eval(), inputs, layer=0).hidden)
    naive = torch.cat(sides[1]).mean(dim=0) - torch.cat(sides[0]).mean(dim=0)
    assert torch.allclose(trainer.shift, naive, atol=1e-5) and trainer.shift.norm() > 0


def test_noise_is_of_the_answer_the_step_and_the_seed(make_trainer, first_batch):
    trainer = make_trainer("rna")
    trainer.set_up()
    batch = trainer.batch(trainer.model, first_batch(trainer, 4)).retain
    drawn = steering.noise(0, 3, batch, batch.hidden)
    assert drawn.shape == batch.hidden.shape and abs(drawn.mean()) < 0.2 and 0.8 < drawn.std() < 1.2
    rows = torch.tensor([False, True, False, True])
    some = batch.of(rows)
    tokens = rows[:, None].expand_as(batch.mask)[batch.mask]
    assert torch.equal(steering.noise(0, 3, some, some.hidden), drawn[tokens])
    for other in ((1, 3), (0, 4)):
        assert not torch.equal(steering.noise(*other, batch, batch.hidden), drawn)
