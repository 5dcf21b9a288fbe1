"""What docs/flags.md says of a flag is what it does: with another value the weights at the end are others, or the same."""

from functools import cache

import pytest
import torch
from support.slow import one_in
from support.trainers import FEW, own, trainer_of

from remem_tasks.errors import RememError
from remem_tasks.steering import steering_of
from unlearning import flags
from unlearning import weights as checkpoint
from unlearning.arguments import parse
from unlearning.mechanisms import autoencoder, steered
from unlearning.methods import METHODS, NAMES
from unlearning.models import loader

BASE = ("--max_steps", "2", "--per_device_train_batch_size", "2", "--learning_rate", "1e-2")
LORA = ("--use_peft", "--lora_r", "4", "--lora_dropout", "0", "--lora_alpha", "8")
SGD = ("--optim", "sgd", "--max_grad_norm", "0")
EPOCH = ("--max_steps", "-1", "--num_train_epochs", "1", "--per_device_train_batch_size", "4")

# By flag: flags beside it, and the value whose weights are compared with those without it.
TRAINED = {
    "adam_beta1": ((), "0.1"),
    "adam_beta2": ((), "0.1"),
    "adam_epsilon": ((), "1"),
    "bf16": ((), "true"),
    "bnb_4bit_quant_type": ((*LORA, "--load_in_4bit", "true"), "fp4"),
    "data_seed": ((), "5"),
    "dataloader_drop_last": (EPOCH, "true"),
    "dtype": (LORA, "bfloat16"),
    "gradient_accumulation_steps": ((), "2"),
    "learning_rate": ((), "5e-3"),
    "load_in_4bit": (LORA, "true"),
    "lora_alpha": (LORA, "64"),
    "lora_dropout": (LORA, "0.5"),
    "lora_modules_to_save": (LORA, "multi_modal_projector"),
    "lora_r": (LORA, "2"),
    "lora_target_modules": (LORA, "q_proj"),
    "lr_scheduler_kwargs": (("--lr_scheduler_type", "cosine"), '{"num_cycles": 1}'),
    "lr_scheduler_type": ((), "constant"),
    "max_grad_norm": (SGD, "0.01"),
    "max_steps": ((), "1"),
    "neftune_noise_alpha": ((), "50"),
    "num_train_epochs": (EPOCH, "2"),
    "optim": ((), "sgd"),
    "optim_args": ((*SGD, "--max_steps", "3"), "momentum=0.9"),
    "per_device_train_batch_size": ((), "3"),
    "seed": (LORA, "1"),
    "use_bnb_nested_quant": ((*LORA, "--load_in_4bit", "true"), "true"),
    "use_dora": (LORA, "true"),
    "use_peft": ((), "true"),
    "use_rslora": (LORA, "true"),
    "warmup_steps": ((), "2"),
    "weight_decay": ((), "0.5"),
}  # fmt: skip
# Those whose effect is seen elsewhere: below, or in the file named.
ELSEWHERE = {
    "accelerator_config": "test_what_reaches_the_accelerator",
    "attn_implementation": "test_what_the_loader_is_told",
    "fp16": "test_what_is_for_an_accelerator",
    "greater_is_better": "test_which_checkpoint_is_the_best",
    "ignore_data_skip": "test_what_a_resumed_run_depends_on",
    "load_best_model_at_end": "test_which_checkpoint_is_the_best",
    "metric_for_best_model": "test_which_checkpoint_is_the_best",
    "model_init_kwargs": "test_what_the_loader_is_told",
    "model_name_or_path": "test_what_the_loader_is_told",
    "model_revision": "test_what_the_loader_is_told",
    "optim_target_modules": "test_an_optimizer_that_is_not_installed_is_one_line",
    "resume_from_checkpoint": "test_what_a_resumed_run_depends_on",
    "tf32": "test_what_is_for_an_accelerator",
    "trust_remote_code": "test_what_the_loader_is_told",
}


def test_every_flag_that_works_is_tried():
    assert TRAINED.keys() | ELSEWHERE.keys() == flags.WORKS and not TRAINED.keys() & ELSEWHERE.keys()
    assert all(name in globals() for name in ELSEWHERE.values())


@pytest.fixture(scope="module")
def trained(data_dir, checkpoints, tmp_path_factory, training_seed):
    """(*flags, method=) → (weights before, weights after) of what a run trains, by name; each run once."""

    @cache
    def run(*given, method="grad_diff"):
        folder = tmp_path_factory.mktemp("run")
        trainer = trainer_of(
            data_dir, checkpoints["llava"], folder, method, "--seed", training_seed, *BASE, *given
        )
        named = {name: value for name, value in trainer.model.named_parameters() if value.requires_grad}
        before = {name: value.detach().clone() for name, value in named.items()}
        trainer.train()
        trainer.finish()
        after = dict(trainer.model.named_parameters())
        ends = {name: after[name].detach().clone() for name in before}
        # What lies beside the weights.
        if (how := steering_of(trainer.model)) is not None:
            ends |= {"steering": torch.cat([how.encoder, (how.scale - 1) * how.decoder])}
        if "guarded" in trainer.notes:
            ends |= {"template": torch.tensor(list(trainer.processing_class.chat_template.encode())).float()}
        beside = {name: torch.zeros_like(ends[name]) for name in ends.keys() - before.keys()}
        return before | beside, ends

    return run


def apart(one, two) -> bool:
    """Whether two runs end apart, by more than rounding: a thousandth of the largest update."""
    if one[1].keys() != two[1].keys() or any(one[1][name].shape != two[1][name].shape for name in one[1]):
        return True
    update = max((one[1][name] - one[0][name]).abs().max().item() for name in one[1])
    assert update > 0
    return max((one[1][name] - two[1][name]).abs().max().item() for name in one[1]) > 1e-3 * update


@pytest.mark.parametrize("flag", one_in(2, TRAINED))
def test_a_flag_that_works_changes_what_is_learned(trained, flag):
    beside, value = TRAINED[flag]
    # (argparse: the later of two counts.)
    assert apart(trained(*beside), trained(*beside, f"--{flag}", value))


# Of the flags that do not concern the result, those that one process on a CPU can have.
INDIFFERENT = {
    "dataloader_num_workers": "1", "disable_tqdm": "false", "eval_delay": "1", "eval_on_start": "true",
    "eval_steps": "1", "eval_strategy": "steps", "activation_checkpointing": "true", "full_determinism": "true",
    "include_num_input_tokens_seen": "true", "logging_first_step": "true", "logging_steps": "1", "logging_strategy": "epoch",
    "per_device_eval_batch_size": "1", "run_name": "other", "save_only_model": "true", "save_strategy": "steps",
    "skip_memory_metrics": "false", "torch_empty_cache_steps": "1", "log_level": "error",
}  # fmt: skip


@pytest.mark.parametrize("flag", one_in(2, INDIFFERENT))
def test_a_flag_that_does_not_concern_the_result_changes_nothing(trained, flag):
    assert flag in flags.ASIDE
    beside = ("--eval_strategy", "epoch", "--eval_em", "false") if flag.startswith("eval_") else ()
    assert not apart(trained(), trained(*beside, f"--{flag}", INDIFFERENT[flag]))


# The methods' own


def another(option):
    """A value of a method's flag that is not its default."""
    if option.choices:
        return next(choice for choice in option.choices if choice != option.default)
    if isinstance(option.default, bool):
        return not option.default
    return {0: 1, -1: 1}.get(option.default, 2 * option.default)


# (Which of two layers answers come from does not depend on how many rows are asked: see test_sculpt.)
OWN = [(name, flag) for name in NAMES for flag in METHODS[name].options if flag != "pava_rows"]
# Values at which a flag has an effect within two steps of few rows, on a model that knows nobody (p is near 0).
VALUES = {
    "kvw_first": 1, "kvw_last": 0, "kvw_rows": 1, "lunar_layer": 0, "lunar_rows": 1,
    "pdu_eps": 6.5, "scrub_alternate": True, "mm_epsilon": 1.0, "manu_share": 0.5, "mm_rows": 1, "manu_rows": 1, "manu_epsilon": 1e3,
    "sae_active": 2, "sae_features": 4, "sae_layer": 0, "sae_ratio": 0.5, "sae_rows": 1, "sae_scale": 0.5, "sae_states": 40,
    "sae_steps": 5, "sae_width": 2, "pava_anchors": 2, "smfa_rows": 1, "smfa_left": 0.5, "satimp_beta1": 0.5, "satimp_beta2": 300.0, "simnpo_beta": 0.4,
}  # fmt: skip
BESIDE = {
    "kvw": ("--kvw_first", "0"),
    "smfa": ("--smfa_left", "0"),
    "satimp": ("--satimp_beta1", "0.1"),
    "simnpo": ("--simnpo_beta", "0.2"),
}


@pytest.fixture(scope="module")
def an_autoencoder(data_dir, checkpoints, tmp_path_factory, training_seed):
    """A folder with one of the model that `trained` starts from."""
    folder = tmp_path_factory.mktemp("sae")
    given = ("sae", "--seed", training_seed, "--sae_layer", "0", "--sae_steps", "20")
    trainer = trainer_of(data_dir, checkpoints["llava"], folder / "run", *given)
    rows = [trainer.train_dataset.forget.example(row) for row in range(2)]
    made = steered.trained_here(trainer.forward, rows, trainer.args)
    made.of = trainer.start
    autoencoder.write(made, folder)
    return folder


@pytest.mark.parametrize(("method", "flag"), one_in(2, OWN), ids=["-".join(one) for one in OWN])
def test_a_methods_own_flag_changes_what_it_does(trained, method, flag, an_autoencoder):
    value = str(an_autoencoder if flag == "sae" else VALUES.get(flag, another(METHODS[method].options[flag])))
    few = (*own(method, *FEW, but=flag), *BESIDE.get(method, ()))
    assert apart(
        trained(*few, method=method),
        trained(*few, f"--{flag}", value, method=method),
    )


# What is seen elsewhere


def told(monkeypatch, *given):
    """What `from_pretrained` would be called with."""
    seen = {}

    class Loaded:
        config = type("C", (), {})()

        def modules(self):
            return []

    def load(path, **kwargs):
        seen.update(kwargs, path=path)
        return Loaded()

    monkeypatch.setattr(checkpoint, "load_model", load)
    _, args, model_args = parse(
        ["--method", "npo", "--model_name_or_path", "m", "--output_dir", "never_written", *given]
    )
    loader(model_args.model_name_or_path, args, model_args)()
    return seen


@pytest.mark.parametrize(
    ("flag", "value", "name", "expected"),
    [
        ("attn_implementation", "eager", "attn_implementation", "eager"),
        ("model_revision", "v2", "revision", "v2"),
        ("trust_remote_code", "true", "trust_remote_code", True),
        ("model_init_kwargs", '{"variant": "fp16"}', "variant", "fp16"),
        ("model_name_or_path", "other", "path", "other"),
    ],
)
def test_what_the_loader_is_told(monkeypatch, flag, value, name, expected):
    assert told(monkeypatch).get(name) != expected
    assert told(monkeypatch, f"--{flag}", value)[name] == expected


def test_what_reaches_the_accelerator(make_trainer):
    trainer = make_trainer("npo", "llava", "--accelerator_config", '{"even_batches": false}')
    assert trainer.accelerator.even_batches is False and make_trainer("npo").accelerator.even_batches is True


@pytest.mark.skipif(torch.cuda.is_available(), reason="an accelerator is there")
@pytest.mark.parametrize("flag", ["fp16", "tf32"])
def test_what_is_for_an_accelerator(flag):
    argv = ["--method", "npo", "--model_name_or_path", "m", "--output_dir", "never_written"]
    with pytest.raises(RememError, match=f"--{flag}") as error:
        parse([*argv, f"--{flag}", "true"])
    assert "\n" not in str(error.value)


def test_which_checkpoint_is_the_best(make_trainer):
    best = ("--save_strategy", "steps", "--save_steps", "1", "--eval_strategy", "steps", "--eval_steps", "1",
            "--eval_em", "false", "--load_best_model_at_end", "true", "--max_steps", "3")  # fmt: skip
    chosen = {}
    for given in (("retain_nll",), ("forget_nll",), ("forget_nll", "--greater_is_better", "true")):
        trainer = make_trainer("ga", "llava", *BASE, *best, "--metric_for_best_model", *given)
        trainer.train()
        points = [entry for entry in trainer.state.log_history if f"eval_{given[0]}" in entry]
        pick = max if "true" in given else min
        wanted = pick(points, key=lambda entry: entry[f"eval_{given[0]}"])["step"]
        assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{wanted}")
        chosen[given] = wanted
    assert len(set(chosen.values())) > 1


def test_what_a_resumed_run_depends_on(make_trainer, tmp_path):
    saves = ("--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "5", "--max_steps", "3")
    whole = make_trainer("grad_diff", "llava", *BASE, *saves)
    whole.train()
    ends = []
    for given in ((), ("--ignore_data_skip", "true")):
        trainer = make_trainer("grad_diff", "llava", *BASE, *saves, *given)
        trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
        ends.append(torch.cat([value.detach().flatten() for value in trainer.model.parameters()]))
    first = torch.cat([value.detach().flatten() for value in whole.model.parameters()])
    assert torch.equal(ends[0], first) and not torch.equal(ends[1], first)


def test_an_optimizer_that_is_not_installed_is_one_line(make_trainer):
    given = ("--optim", "galore_adamw", "--optim_target_modules", "q_proj", *BASE)
    with pytest.raises(RememError, match="--optim galore_adamw: ") as error:
        make_trainer("npo", "llava", *given).train()
    assert "\n" not in str(error.value)


# What has no effect beside others is refused


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("npo", "--lora_r", "4"), "--lora_r is for adapters: give --use_peft too"),
        (("npo", "--use_dora", "true"), "--use_dora is for adapters"),
        (("npo", "--lora_target_modules", "q_proj"), "--lora_target_modules is for adapters"),
        (("ga", "--npo_beta", "0.3"), "--npo_beta is of npo, not of ga"),
        (("kl", "--dpo_scale", "1"), "--dpo_scale is of altpo, dpo, not of kl"),
        (("npo", "--alternatives", "model"), "--alternatives is for methods with other answers"),
        (
            ("ga", "--retain_loss", "kl"),
            r"--retain_loss kl has no effect at α = 0, the default of ga: give --alpha",
        ),
        (("npo", "--alpha", "0", "--retain_loss", "kl"), "--retain_loss kl has no effect at α = 0"),
        (("task_vector", "--alpha", "1"), "--alpha: task_vector has no retain rows"),
        (("sft", "--gamma", "2"), "--gamma: sft has one loss"),
        (("manu", "--alpha", "2"), "--alpha: manu does not train"),
        (("npo", "--lr_scheduler_type", "constant", "--warmup_steps", "2"), "give constant_with_warmup"),
        (("npo", "--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", "{}"), ""),
        (
            ("npo", "--lr_scheduler_type", "constant", "--lr_scheduler_kwargs", '{"num_cycles": 2}'),
            "no effect with",
        ),
        (("npo", "--optim", "sgd", "--adam_beta1", "0.5"), "--adam_beta1 has no effect with --optim sgd"),
        (("npo", "--optim_args", "momentum=0.9"), "--optim_args has no effect with --optim adamw"),
        (
            ("npo", "--optim", "sgd", "--optim_args", "beta1=0.9"),
            "--optim_args beta1=0.9: of it --optim sgd reads momentum",
        ),
        (("npo", "--optim_target_modules", "q_proj"), "--optim_target_modules has no effect"),
        (("npo", "--optim", "galore_adamw_layerwise"), "within the backward pass"),
        (("npo", "--optim", "schedule_free_adamw"), "--optim schedule_free_adamw: not taken"),
        (("npo", "--metric_for_best_model", "retain_nll"), "is for --load_best_model_at_end true"),
        (("npo", "--accelerator_config", '{"dispatch_batches": true}'), "dispatch_batches: not taken"),
        (("npo", "--model_init_kwargs", '{"load_in_8bit": true}'), "load_in_8bit: not taken"),
    ],
)
def test_what_would_have_no_effect_beside_others_is_refused(given, why):
    argv = ["--method", given[0], "--model_name_or_path", "m", "--output_dir", "never_written", *given[1:]]
    if not why:
        parse(argv)
        return
    with pytest.raises(RememError, match=why) as error:
        parse(argv)
    assert "\n" not in str(error.value)


def test_the_best_is_chosen_by_what_is_measured():
    argv = [
        "--method",
        "npo",
        "--model_name_or_path",
        "m",
        "--output_dir",
        "never_written",
        "--eval_strategy",
        "steps",
    ]
    argv += ["--load_best_model_at_end", "true", "--eval_steps", "2", "--save_steps", "2"]
    with pytest.raises(
        RememError, match="--metric_for_best_model None: .* forget_nll, forget_loss, forget_em"
    ):
        parse(argv)
    with pytest.raises(RememError, match="--metric_for_best_model f1: "):
        parse([*argv, "--metric_for_best_model", "f1"])
    assert parse([*argv, "--metric_for_best_model", "eval_forget_nll"])[1].greater_is_better is False
    assert parse([*argv, "--metric_for_best_model", "retain_em"])[1].greater_is_better is True
