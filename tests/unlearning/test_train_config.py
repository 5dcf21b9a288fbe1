"""Flags, YAML files, defaults, messages."""

import re
from pathlib import Path

import pytest

import unlearning
from remem_tasks.errors import RememError
from unlearning.arguments import parse
from unlearning.catalogue import page
from unlearning.methods import METHODS, NAMES

RECIPES = sorted((Path(unlearning.__file__).parent / "configs").glob("*.yaml"))
BASE = ["--model_name_or_path", "somewhere", "--output_dir", "never_written"]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_methods_else_the_shared_ones(name):
    _, args, _ = parse(["--method", name, *BASE])
    shared = {"gamma": 1.0, "alpha": 1.0, "retain_loss": "nll", "learning_rate": 2e-5}
    for field, value in {**shared, **METHODS[name].defaults}.items():
        assert getattr(args, field) == value, field
    assert args.method_options == {flag: option.default for flag, option in METHODS[name].options.items()}


def test_the_page_of_methods_is_that_of_the_registry():
    """`python -m unlearning.methods > docs/methods.md` writes it."""
    made = page()
    assert (Path(unlearning.__file__).parents[1] / "docs" / "methods.md").read_text() == made
    for name in NAMES:
        method = METHODS[name]
        assert f"\n## {name}\n" in made and method.source and method.source in made
        assert method.fidelity in ("paper", "official code", "our reading")
        assert all(f"`--{flag}` [{option.default}]" in made for flag, option in method.options.items())


def test_a_flag_beats_the_methods_default_even_when_it_is_zero():
    _, args, _ = parse(["--method", "ga", *BASE, "--alpha", "0.5", "--gamma", "0", "--learning_rate", "3e-6"])
    assert (args.alpha, args.gamma, args.learning_rate) == (0.5, 0.0, 3e-6)


def test_defaults_are_safe_on_a_cpu():
    _, args, _ = parse(["--method", "sft", *BASE, "--use_cpu", "true"])
    assert not args.bf16 and not args.activation_checkpointing and args.max_length is None
    assert args.report_to == [] and not args.remove_unused_columns and not args.dataloader_pin_memory


def test_an_alias_gives_the_method():
    assert parse(["--method", "po", *BASE])[1].method == "idk"


def test_flags_override_the_yaml_file(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("method: npo\nnpo_beta: 0.3\nalpha: 2\nlearning_rate: 1e-5\n")
    _, args, _ = parse(["--config", str(recipe), *BASE, "--alpha", "7"])
    assert (args.method, args.npo_beta, args.alpha, args.learning_rate) == ("npo", 0.3, 7.0, 1e-5)
    assert parse([f"--config={recipe}", *BASE])[1].alpha == 2


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe):
    _, args, model_args = parse(["--config", str(recipe), *BASE])
    assert args.method in NAMES
    assert args.method in recipe.stem or model_args.use_peft


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--method", "nope", *BASE], "unknown method 'nope'; choose from altpo, ceu, "),
        (BASE, "--method is missing; choose from"),
        (["--method", "npo", "--npo_betta", "1", *BASE], "--npo_betta"),
        (["--method", "npo", "--npo_beta", "much", *BASE], "--npo_beta"),
        (["--method", "npo", "--retain_loss", "l2", *BASE], "unknown retain loss 'l2'"),
        (["--method", "npo", "--max_length", "64", *BASE], "--max_length"),
        (["--method", "npo", "--config", "no/such.yaml", *BASE], "no/such.yaml"),
        (["--method", "npo", *BASE, "--config"], "--config needs a file"),
    ],
)
def test_a_bad_argument_is_one_clear_line(argv, said):
    with pytest.raises(RememError) as error:
        parse(argv)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_bad_yaml_file_is_one_clear_line(tmp_path):
    for text, said in (
        ("method: [", "is not YAML"),
        ("npo_betta: 1", "npo_betta"),
        ("just words", "mapping"),
    ):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(RememError) as error:
            parse(["--method", "npo", *BASE, "--config", str(tmp_path / "r.yaml")])
        assert said in str(error.value) and "\n" not in str(error.value)


def test_help_is_short_and_help_all_long(capsys):
    assert parse(["--help"]) is None
    short = capsys.readouterr().out
    assert parse(["--help_all"]) is None
    long = capsys.readouterr().out
    assert "--npo_beta [0.1]" in short and "--vision_lr" in short and "%%" not in short
    assert len(short.splitlines()) < 250 < len(long.splitlines())  # (a method is a line or several)


def test_a_recipe_goes_by_its_name_or_its_path(tmp_path, monkeypatch):
    _, args, model = parse(["--config", "llava_1.5_7b_remem", *BASE])
    assert (args.method, model.lora_alpha) == ("npo", 16)
    assert parse(["--config=ga", *BASE])[1].method == "ga"
    monkeypatch.chdir(tmp_path)
    Path("ga").write_text("method: idk\n")  # a file of one's own comes first
    assert parse(["--config", "ga", *BASE])[1].method == "idk"
    with pytest.raises(
        RememError, match="--config 'nqo' is neither a file nor one of the recipes ga, gold, "
    ):
        parse(["--config", "nqo", *BASE])


ACCELERATE = sorted((Path(unlearning.__file__).parent / "configs" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("config", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_configs_are_what_the_launcher_takes(config, monkeypatch):
    """Parsed by accelerate's own launcher, up to the environment that it would start the processes with."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import (
        prepare_deepspeed_cmd_env,
        prepare_multi_gpu_env,
        prepare_simple_launcher_cmd_env,
    )

    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    args = launch_command_parser().parse_args(["--config_file", str(config), "train.py"])
    # (The launcher keeps what was given on its command line; here nothing was.)
    args.nondefault = getattr(args, "nondefault", set())
    args.main_process_port = 0
    args, defaults, _ = _validate_launch_command(args)
    kinds = {"cpu": "NO", "gpu": "NO", "cpu2": "MULTI_GPU", "ddp": "MULTI_GPU", "fsdp2": "FSDP"}
    kind = (kinds | {"cpu2_fsdp2": "FSDP"}).get(config.stem, "DEEPSPEED")
    assert defaults.distributed_type.value == kind
    if kind == "NO":
        _, env = prepare_simple_launcher_cmd_env(args)
        assert args.num_processes == 1
    elif kind == "DEEPSPEED":
        # As the launcher does it between the two; DeepSpeed itself is not needed up to here.
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, env = prepare_deepspeed_cmd_env(args)
        assert env["ACCELERATE_USE_DEEPSPEED"] == "true"
        assert env["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == config.stem[-1]
    else:
        env = prepare_multi_gpu_env(args)
        assert args.num_processes == (2 if config.stem.startswith("cpu2") else 4)
    if kind == "FSDP":
        assert (env["ACCELERATE_USE_FSDP"], env["FSDP_VERSION"]) == ("true", "2")
        assert env["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"


def test_recipes_of_the_papers_choose_their_adapters():
    from unlearning.models import lora_config

    found = {}
    for recipe in RECIPES:
        _, args, model_args = parse(["--config", str(recipe), *BASE])
        if recipe.stem.endswith(("_remem", "_clear")):
            config = lora_config(model_args)
            together = args.per_device_train_batch_size * args.gradient_accumulation_steps
            found[recipe.stem] = (config.r, config.lora_alpha, together, args.num_train_epochs, args.seed)
            assert (config.target_modules == "all-linear") == recipe.stem.endswith("_clear")
    assert len(found) == 4
    assert all(found[name] == (8, 16 if name.endswith("_remem") else 32, 4, 5, 42) for name in found)


def test_a_run_whose_forget_nll_has_not_moved_says_so():
    from unlearning.run import unmoved

    moved = [{"forget_nll": 0.5}, {"loss": 1.0}, {"forget_nll": 0.53}]
    assert unmoved(moved) is None and unmoved(moved[:1]) is None and unmoved([]) is None
    assert "0.5 nats per token at first, 0.51 at last" in unmoved([*moved, {"forget_nll": 0.51}])
    # What was evaluated counts before what was trained on.
    assert unmoved([*moved, {"eval_forget_nll": 2.0}, {"eval_forget_nll": 2.01}]).endswith("2.01 at last")
    assert (
        unmoved(
            [{"forget_nll": 1.0}, {"forget_nll": 1.0}, {"eval_forget_nll": 2.0}, {"eval_forget_nll": 3.0}]
        )
        is None
    )


def test_missing_options_are_told_together():
    with pytest.raises(RememError, match="^--method and --model_name_or_path and --output_dir are missing"):
        parse(["--npo_beta", "0.2"])
    with pytest.raises(RememError, match="^--model_name_or_path and --output_dir are missing"):
        parse(["--method=npo"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--lerning_rate", "1"], "unknown: '--lerning_rate' (did you mean --learning_rate?)"),
        (["--methd=npo"], "unknown: '--methd' (did you mean --method?)"),
        (["--zzz", "3"], "unknown: '--zzz'; --help"),
    ],
)
def test_an_unknown_flag_is_told_what_is_nearest(tmp_path, flags, says):
    with pytest.raises(RememError, match=re.escape(says)):
        parse(["--model_name_or_path", "x", "--output_dir", str(tmp_path), *flags])


def test_an_unknown_key_of_a_recipe_is_told_what_is_nearest(tmp_path):
    (tmp_path / "r.yaml").write_text("method: npo\nlerning_rate: 1e-4\n")
    with pytest.raises(RememError, match=r"^unknown: '--lerning_rate' .did you mean --learning_rate"):
        parse(
            [
                "--model_name_or_path",
                "x",
                "--output_dir",
                str(tmp_path),
                "--config",
                str(tmp_path / "r.yaml"),
            ]
        )
