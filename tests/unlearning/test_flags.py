"""Every flag of TRL and transformers works, is refused with a reason, or does not concern the result."""

from pathlib import Path

import pytest

from remem_tasks.errors import RememError
from unlearning import flags
from unlearning.arguments import parse

OTHER = {
    "label_smoothing_factor": "0.1", "loss_type": "dft", "completion_only_loss": "false", "assistant_only_loss": "true",
    "router_aux_loss_coef": "0.1", "average_tokens_across_devices": "false", "train_sampling_strategy": "sequential",
    "length_column_name": "size", "shuffle_dataset": "true", "packing": "true", "packing_strategy": "wrapped",
    "padding_free": "true", "eval_packing": "true", "pad_to_multiple_of": "8", "truncation_mode": "keep_end",
    "dataset_text_field": "words", "dataset_kwargs": '{"skip_prepare_dataset": true}', "dataset_num_proc": "2",
    "chat_template_path": "m", "eos_token": "</s>", "pad_token": "<pad>", "label_names": "labels", "max_length": "512",
    "remove_unused_columns": "true", "prediction_loss_only": "true", "include_for_metrics": "inputs",
    "batch_eval_metrics": "true", "eval_do_concat_batches": "false", "eval_use_gather_object": "true",
    "eval_accumulation_steps": "2", "bf16_full_eval": "true", "fp16_full_eval": "true", "do_train": "true",
    "do_eval": "true", "do_predict": "true", "torch_compile": "true", "torch_compile_backend": "eager",
    "torch_compile_mode": "default", "use_liger_kernel": "true", "liger_kernel_config": '{"rope": true}',
    "use_cache": "true", "auto_find_batch_size": "true", "parallelism_config": '{"tp_size": 2}',
    "logging_nan_inf_filter": "true", "load_in_8bit": "true", "bnb_4bit_quant_storage": "bfloat16",
    "lora_task_type": "SEQ_CLS", "lora_target_parameters": "experts", "fsdp": "true", "fsdp_config": '{"version": 2}', "deepspeed": "zero.json",
}  # fmt: skip


def parsed(*given):
    return parse(["--method", "npo", "--model_name_or_path", "m", "--output_dir", "never_written", *given])


def test_every_flag_of_the_installed_releases_has_its_place():
    groups = (flags.WORKS, flags.ASIDE, flags.REFUSED.keys())
    assert sum(map(len, groups)) == len(set().union(*groups)), "one place each"
    assert set().union(*groups) == flags.known()
    assert OTHER.keys() == flags.REFUSED.keys()


@pytest.mark.parametrize("name", flags.REFUSED)
def test_what_would_have_no_effect_is_refused_in_one_line(name):
    with pytest.raises(RememError) as error:
        parsed(f"--{name}", OTHER[name])
    assert name in str(error.value) and "\n" not in str(error.value)


def test_defaults_and_what_says_the_same_are_taken():
    _, args, _ = parsed("--completion_only_loss", "true", "--packing", "false", "--loss_type", "nll")
    assert args.completion_only_loss is True


def test_the_page_is_up_to_date():
    assert Path("docs/flags.md").read_text(encoding="utf-8") == flags.page()
