"""Names of other packages that this code replaces, overrides or reads though nobody promised them to it.

A release that drops one fails here first, by its name. To try a release: CONTRIBUTING.md.
"""

import importlib
import importlib.util
import inspect
from pathlib import Path

import pytest

# Where it is, its name, and the parameters that we give by name or take over.
FUNCTIONS = [
    # harness/plugin.py, harness/exit_status.py, harness/command.py, harness/listing.py
    ("lmms_eval.tasks", "TaskManager.initialize_tasks", ("self", "include_path", "include_defaults")),
    ("lmms_eval.tasks", "get_task_dict", ("task_name_list", "task_manager", "task_type")),
    ("lmms_eval.evaluator", "get_task_dict", ("task_name_list", "task_manager", "task_type")),
    ("lmms_eval.evaluator", "evaluate", ("lm", "task_dict")),
    ("lmms_eval.__main__", "cli_evaluate", ()),
    ("lmms_eval.__main__", "cli_evaluate_single", ("args",)),
    ("lmms_eval.__main__", "make_table", ("result_dict", "column")),
    ("lmms_eval.cli.dispatch", "main", ()),
    ("lmms_eval.cli.tasks_cmd", "run_tasks", ("args",)),
    ("lmms_eval.models.registry_v2", "ModelManifest", ("model_id", "simple_class_path", "chat_class_path")),
    # evaluation in process
    (
        "lmms_eval.evaluator",
        "simple_evaluate",
        ("model", "tasks", "task_manager", "bootstrap_iters", "gen_kwargs"),
    ),
    (
        "lmms_eval.loggers",
        "EvaluationTracker.save_results_aggregated",
        ("results", "samples", "datetime_str"),
    ),
    ("lmms_eval.loggers", "EvaluationTracker.save_results_samples", ("task_name", "samples")),
    ("lmms_eval.utils", "simple_parse_args_string", ()),
    ("lmms_eval.utils", "get_datetime_str", ()),
    # harness/task.py, harness/remem_hf.py
    ("lmms_eval.api.instance", "Instance", ("request_type", "arguments", "idx", "metadata")),
    ("lmms_eval.api.instance", "GenerationResult", ("text", "token_counts")),
    ("lmms_eval.api.instance", "TokenCounts", ("input_tokens", "output_tokens")),
    ("lmms_eval.api.task", "ConfigurableMessagesTask._prepare_metric_and_aggregation", ("self",)),
    ("lmms_eval.api.task", "ConfigurableMessagesTask._build_user_turn", ()),
    ("lmms_eval.api.task", "ConfigurableMessagesTask.download", ("dataset_kwargs",)),
    ("lmms_eval.api.task", "ConfigurableMessagesTask.build_all_requests", ("system_instruction",)),
    ("lmms_eval.api.task", "ConfigurableMessagesTask.construct_requests", ("doc_id", "ctx")),
    ("lmms_eval.api.task", "ConfigurableMessagesTask.process_results", ("doc", "results")),
    ("lmms_eval.api.task", "ConfigurableMessagesTask.apply_filters", ("self",)),
    # harness/lm_eval
    ("lm_eval.__main__", "cli_evaluate", ()),
    ("lm_eval.api.registry", "get_model", ("model_name",)),
    ("lm_eval.api.registry", "Registry.register", ("target",)),
    (
        "lm_eval.api.task",
        "Task.build_all_requests",
        ("cache_requests", "chat_template", "system_instruction"),
    ),
    ("lm_eval.api.task", "Task.fewshot_context", ("doc",)),
    ("lm_eval.api.instance", "Instance", ("request_type", "doc", "arguments", "idx", "metadata")),
    ("lm_eval.config.task", "TaskConfig", ("task", "test_split", "generation_kwargs", "repeats", "metadata")),
    ("lm_eval.models.hf_vlms", "HFMultimodalLM.apply_chat_template", ("chat_history",)),
    # unlearning/trainer.py, unlearning/prepared.py, unlearning/stepping.py, unlearning/resume.py
    ("trl", "SFTTrainer._get_train_sampler", ("train_dataset",)),
    ("trl", "SFTTrainer._set_signature_columns_if_needed", ("self",)),
    ("trl", "SFTTrainer._get_grad_norm", ("model", "grad_norm")),
    ("trl", "SFTTrainer._prepare_inputs", ("inputs",)),
    ("trl", "SFTTrainer._save_optimizer_and_scheduler", ("output_dir",)),
    ("trl", "SFTTrainer._save_checkpoint", ("model", "trial")),
    (
        "transformers.trainer_utils",
        "rotate_checkpoints",
        ("output_dir", "save_total_limit", "best_model_checkpoint", "use_mtime"),
    ),
    ("trl", "SFTTrainer._load_optimizer_and_scheduler", ("checkpoint",)),
    ("trl", "SFTTrainer._load_from_checkpoint", ("resume_from_checkpoint", "model")),
    ("trl", "SFTTrainer._load_best_model", ("self",)),
    ("trl", "SFTTrainer._load_rng_state", ("checkpoint",)),
    ("trl", "SFTTrainer._send_telemetry", ("self",)),
    ("trl", "SFTTrainer.save_model", ("output_dir", "_internal_call")),
    ("trl", "SFTTrainer.log", ("logs", "start_time")),
    ("trl", "SFTTrainer.evaluation_loop", ()),
    ("trl", "SFTTrainer.init_hf_repo", ()),
    ("trl", "SFTTrainer.create_accelerator_and_postprocess", ("self",)),
    (
        "trl",
        "SFTTrainer._prepare_for_training",
        ("self", "max_steps", "train_dataloader", "resume_from_checkpoint"),
    ),
    ("trl", "SFTTrainer._load_scaler", ("checkpoint",)),
    ("transformers.trainer", "get_reporting_integration_callbacks", ("report_to",)),
    # unlearning/mechanisms/pictures.py, remem_tasks/steering.py
    ("transformers.models.llava.modeling_llava", "LlavaModel.get_image_features", ("pixel_values",)),
    (
        "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
        "Qwen2_5_VLModel.get_image_features",
        ("pixel_values", "image_grid_thw"),
    ),
    ("transformers", "PreTrainedModel.save_pretrained", ("variant",)),
    # unlearning/sharding.py
    ("accelerate.utils.fsdp_utils", "fsdp2_prepare_model", ("accelerator", "model")),
    ("accelerate", "PartialState._shared_state", ()),
    ("trl", "TrlParser.parse_args_and_config", ("args",)),
    ("peft.tuners.tuners_utils", "check_target_module_exists", ("config", "key")),
    ("accelerate.commands.launch", "launch_command_parser", ()),
    # engine/
    ("transformers.integrations.sdpa_attention", "sdpa_attention_forward", ("attention_mask",)),
    ("transformers.cache_utils", "DynamicLayer.update", ("key_states", "value_states")),
    ("transformers.cache_utils", "DynamicLayer.lazy_initialization", ("key_states", "value_states")),
    ("transformers.cache_utils", "DynamicLayer.get_seq_length", ("self",)),
    ("transformers.cache_utils", "Cache", ("layers",)),
    ("transformers", "PreTrainedModel.set_attn_implementation", ("attn_implementation",)),
    # data/hub.py
    ("huggingface_hub", "get_cached_repo_tree", ("repo_id", "repo_type", "revision")),
    ("huggingface_hub.errors", "CachedRepoTreeNotFoundError", ()),
    ("datasets", "get_dataset_config_names", ()),
    ("datasets", "load_dataset_builder", ("cache_dir",)),
]

# What is read or written by name where there is no signature: the module and a text of its source.
TEXTS = [
    ("lmms_eval.api.task", "self._metric_fn_list"),
    ("lmms_eval.api.task", "self._metric_fn_kwargs"),
    ("lmms_eval.api.task", "self._aggregation_list"),
    ("lmms_eval.api.task", "self._higher_is_better"),
    ("lmms_eval.evaluator", '"__padding_only__"'),
    ("lmms_eval.models", "AVAILABLE_CHAT_TEMPLATE_MODELS"),
    ("lmms_eval.cli.models_cmd", "AVAILABLE_CHAT_TEMPLATE_MODELS"),
    ("lmms_eval.cli.tasks_cmd", "from lmms_eval.tasks import TaskManager"),
    ("lmms_eval.models.simple.openai", "[LMMS_EVAL_REQUEST_FAILED"),
    ("trl.trainer.sft_trainer", "self._metrics"),
    ("trl.trainer.sft_trainer", "fused_lm_head"),
    ("transformers.trainer", "self._signature_columns"),
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.configuration_utils", "_attn_implementation"),
    ("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "self.rope_deltas"),
    ("transformers.models.llava.modeling_llava", "= self.get_image_features("),
    ("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "= self.get_image_features("),
    ("torch", '"torch.backends"'),
]


def source(module: str) -> str:
    """The text of a module, which is not imported for it."""
    found = importlib.util.find_spec(module)
    assert found is not None and found.origin, f"the module {module} is gone"
    return Path(found.origin).read_text(encoding="utf-8")


def gone(module: str, name: str, parameters: tuple[str, ...]) -> str:
    """What is missing of a function or class, in words; empty if nothing is."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        return f"the module {module} cannot be imported: {error}"
    for part in name.split("."):
        if not hasattr(found, part):
            return f"{module}.{name} is gone"
        found = getattr(found, part)
    taken = inspect.signature(found).parameters if parameters else {}
    if missing := [one for one in parameters if one not in taken]:
        return f"{module}.{name} takes no {', '.join(missing)} any more, but ({', '.join(taken)})"
    return ""


@pytest.mark.parametrize(
    ("module", "name", "parameters"), FUNCTIONS, ids=[f"{m}:{n}" for m, n, _ in FUNCTIONS]
)
def test_a_seam_is_where_it_was(module, name, parameters):
    assert not gone(module, name, parameters)


@pytest.mark.parametrize(("module", "text"), TEXTS, ids=[f"{module}:{text}" for module, text in TEXTS])
def test_a_name_without_a_signature_is_still_used(module, text):
    assert text in source(module), f"{module} does not use {text} any more"


def test_what_is_gone_is_named():
    assert gone("lmms_eval.nowhere", "x", ()).startswith("the module lmms_eval.nowhere cannot be imported")
    assert gone("pathlib", "Path.nowhere", ()) == "pathlib.Path.nowhere is gone"
    says = "pathlib.Path.rename takes no where any more, but (self, target)"
    assert gone("pathlib", "Path.rename", ("target", "where")) == says


def _overridden(ours: type, theirs: type) -> set[str]:
    own = {name for part in ours.__mro__ if not issubclass(theirs, part) for name in vars(part)}
    return {
        name for name in own if name.startswith("_") and not name.startswith("__") and hasattr(theirs, name)
    }


def _overrides():
    from lmms_eval.api.task import ConfigurableMessagesTask
    from transformers.cache_utils import DynamicLayer
    from trl import SFTTrainer

    from remem_tasks.engine.tree import _Layer
    from remem_tasks.harness.task import BenchmarkTask
    from unlearning.methods import METHODS

    yield BenchmarkTask, ConfigurableMessagesTask
    yield _Layer, DynamicLayer
    for method in set(METHODS.values()):
        yield method, SFTTrainer


def test_every_underscore_name_that_we_override_is_in_the_table():
    """Python's own data of a class (`_abc_impl`, `_tag_names`) is no seam."""
    listed = {name.rpartition(".")[2] for _, name, _ in FUNCTIONS}
    found = {
        (theirs.__name__, name)
        for ours, theirs in _overrides()
        for name in _overridden(ours, theirs)
        if callable(getattr(theirs, name))
    }
    assert {"_get_grad_norm", "_prepare_metric_and_aggregation"} <= {name for _, name in found}
    assert not sorted(f"{theirs}.{name}" for theirs, name in found if name not in listed)


def test_the_backends_that_are_known_by_name_exist():
    """Capabilities go by the names of lmms-eval's modules: a renamed one would quietly lose its own."""
    from remem_tasks.harness.backends import CLIENTS, ENGINES, PASS_TOP_K

    chat = Path(importlib.util.find_spec("lmms_eval.models").origin).parent / "chat"
    assert not [name for name in (*ENGINES, *CLIENTS, *PASS_TOP_K) if not (chat / f"{name}.py").is_file()]


def test_standard_errors_are_known_of_the_harness_own_mean():
    """`harness/task.py` puts it in place of `benchmarks.base.mean`."""
    from lmms_eval.api.metrics import mean, stderr_for_metric

    from remem_tasks.benchmarks.base import mean as ours

    assert stderr_for_metric(mean, 1) is not None and stderr_for_metric(ours, 1) is None
    assert mean([0.0, 1.0, 0.5]) == ours([0.0, 1.0, 0.5]) == 0.5
