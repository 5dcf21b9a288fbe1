"""Arguments of a run: their names, defaults and help texts, and what of them does not go together.

The methods' own flags (`--npo_beta`) are made from their declarations in `methods/`; nothing here
names a method.
"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Any

import torch
from trl import SFTConfig

from remem_tasks.benchmarks.remem.data import ENV, HUB_ID
from remem_tasks.data.faults import ALLOW, REFUSE
from remem_tasks.errors import RememError
from unlearning import combinations, flags
from unlearning.data import MODALITIES
from unlearning.evaluation import StopRule
from unlearning.mechanisms.gradients import NAMES as WRAPS
from unlearning.methods import METHODS, NAMES
from unlearning.retain_losses import RETAIN_LOSSES

# What a method's `defaults` override.
SHARED = {"gamma": 1.0, "alpha": 1.0, "retain_loss": "nll", "learning_rate": 2e-5}


@dataclass
class DataArguments:
    """Where the rows come from."""

    data: str | None = field(
        default=None,
        metadata={
            "aliases": ["--dataset"],
            "help": f"Folder or Hub id of the rows: ReMem (default: ${ENV}, else {HUB_ID}), CLEAR (therem/CLEAR) or "
            "MLLMU-Bench (MLLMMU/MLLMU-Bench).",
        },
    )
    forget: str = field(
        default="forget1", metadata={"help": "Split to forget; of CLEAR forget10, of MLLMU-Bench forget_5."}
    )
    finetune_split: str | None = field(
        default=None,
        metadata={
            "help": "Split that was memorised; without the forget identities it is the retain set. Default: finetune; of "
            "CLEAR full, of MLLMU-Bench ft_Data; there several by commas (full,real_faces,real_world)."
        },
    )
    modality: str = field(
        default="joint",
        metadata={
            "help": f"CLEAR, MLLMU-Bench: which rows are trained on: {', '.join(MODALITIES)} (pictures and texts, texts "
            "alone, pictures alone)."
        },
    )
    identity_rule: str | None = field(
        default=None,
        metadata={"help": "How image_path names an identity: folder, stem, auto, or a regular expression."},
    )
    caption_questions: str | None = field(
        default=None,
        metadata={
            "help": "CLEAR: which nine questions ask for captions, own or published. Default: $REMEM_CAPTION_QUESTIONS, "
            "else own."
        },
    )
    faults: str = field(
        default=REFUSE,
        metadata={
            "help": f"Of rows that `remem data check` names: {REFUSE} stops before anything is loaded, {ALLOW} goes on "
            "(of CLEAR and MLLMU-Bench without them) and run.json tells of them."
        },
    )


@dataclass
class UnlearnConfig(SFTConfig):
    """All training arguments that methods share: TRL's `SFTConfig` and unlearning's own.

    The methods' flags come to it in `Arguments`, from their declarations.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A flag that a method declares."""

    # The method
    method: str = field(default="", metadata={"help": f"One of {', '.join(NAMES)}."})
    gamma: float | None = field(
        default=None, metadata={"help": "Weight γ of the forget loss. Default: the method's, else 1."}
    )
    alpha: float | None = field(
        default=None,
        metadata={
            "help": "Weight α of the retain loss; 0 leaves retain rows out. Default: the method's, else 1."
        },
    )
    retain_loss: str | None = field(
        default=None,
        metadata={
            "help": f"{', '.join(RETAIN_LOSSES)} (all but nll against the model before unlearning), or none, which "
            "leaves retain rows out. Default: the method's, else nll."
        },
    )
    retain_per_forget: int = field(
        default=1,
        metadata={"help": "Retain rows beside each forget row; a mean over their tokens all the same."},
    )
    l1_lora: float = field(
        default=0.0, metadata={"help": "With --use_peft: weight λ of Σ|θ| over the LoRA matrices (CLEAR)."}
    )
    wrap: str = field(
        default="none",
        metadata={
            "help": "What is made of the gradients of forget and retain loss: none (their sum), sam (forget gradient at "
            "weights perturbed against it), gru (forget gradient without what conflicts with the retain gradient), "
            "blur (the other way round). See docs/methods.md."
        },
    )
    sam_rho: float = field(
        default=0.01, metadata={"help": "With --wrap sam: length ρ of the perturbation of the weights."}
    )
    alternatives: str = field(
        default="auto",
        metadata={
            "help": "Where plausible other answers come from: data (config 'perturbed'), model (sampled before the "
            "first step), or auto: data where there are any."
        },
    )
    alternatives_each: int = field(
        default=5, metadata={"help": "Other answers that the model invents for each forget row."}
    )
    alternatives_tokens: int = field(
        default=64, metadata={"help": "Longest answer that the model invents, in tokens."}
    )
    # The starting model
    gate_results: str | None = field(
        default=None,
        metadata={
            "help": "Results of the starting model (lmms_eval's --output_path, with --log_samples). A forget method "
            "starts only from a model that had memorised: see `remem gate`."
        },
    )
    no_gate: bool = field(default=False, metadata={"help": "Start from any model; the run's record says so."})
    # What is trained
    train: str = field(
        default="all",
        metadata={
            "help": "Full fine-tuning: what is trained. all, a comma-separated list of language_model, projector, "
            "vision_tower, or a regular expression on parameter names."
        },
    )
    vision_lr: float | None = field(
        default=None, metadata={"help": "Learning rate of the vision tower. Default: --learning_rate."}
    )
    # Evaluation during the run
    stop_on: str | None = field(
        default=None,
        metadata={
            "help": "End the run at the first evaluation that reaches the gold model's level: forget_nll=<nats a "
            "token> (from below), forget_em=<share> (from above), or both, comma-separated, whichever comes first."
        },
    )
    eval_rows: int = field(
        default=0, metadata={"help": "Rows of each set that are evaluated, spread evenly; 0: all."}
    )
    eval_em: bool = field(
        default=True, metadata={"help": "Also let the model reply, for exact match (the expensive part)."}
    )
    # The run
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Replace an earlier run in output_dir (only a folder with a run.json)."},
    )
    resume_without_state: bool = field(
        default=False,
        metadata={
            "help": "Resume with other settings, or from a checkpoint that lost its optimizer, scheduler or random state; "
            "not exact."
        },
    )
    picture_cache_mb: float = field(
        default=256,
        metadata={"help": "Encoded pictures kept in memory by each process, in MiB; 0 keeps none."},
    )

    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "true: the newest whole checkpoint in output_dir, or the start; or a checkpoint's path."
        },
    )

    # Other defaults than TRL's and transformers'
    learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of AdamW. Default: the method's, else 2e-5."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Unused: cutting text would cut picture tokens off their pixels."}
    )
    gradient_checkpointing: bool | None = field(
        default=None,
        metadata={"help": "Trade time for memory. Default: on with an accelerator, off on a CPU."},
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "bfloat16 autocast. Default: on where the accelerator supports it, off on a CPU."},
    )
    remove_unused_columns: bool | None = field(
        default=False, metadata={"help": "Unused: examples hold no columns."}
    )
    save_total_limit: int | None = field(
        default=1, metadata={"help": "Checkpoints kept; the oldest go first."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Unused: a loss that is not finite ends the run."}
    )

    def __post_init__(self):
        flags.check(self)
        flags.check_numbers(self)
        method = METHODS.get(self.method)
        if method is None:
            named = f"unknown method '{self.method}'" if self.method else "--method is missing"
            raise RememError(f"{named}; choose from {', '.join(NAMES)}")
        self.method = method.name
        combinations.check_weights(self, method)
        combinations.check_options(self, METHODS)
        self.check_best()
        for name, value in {**SHARED, **method.defaults}.items():
            if getattr(self, name) is None:
                setattr(self, name, value)
        if self.retain_loss == "none":
            self.retain_loss, self.alpha = "nll", 0.0
        if self.retain_per_forget > 1 and (not method.trains or not method.weighs_retain(self.alpha)):
            raise RememError(
                f"--retain_per_forget: {method.name} has no retain rows beside its forget rows; leave it out"
            )
        if self.retain_loss not in RETAIN_LOSSES:
            raise RememError(
                f"unknown retain loss '{self.retain_loss}'; choose from {', '.join([*RETAIN_LOSSES, 'none'])}"
            )
        if self.retain_loss == "hidden" and method.reference != "hidden":
            raise RememError("--retain_loss hidden is for methods that choose a layer (rmu)")
        if self.wrap not in WRAPS:
            raise RememError(f"unknown --wrap '{self.wrap}'; choose from {', '.join(WRAPS)}")
        if self.wrap != "sam" and self.sam_rho != 0.01:
            raise RememError("--sam_rho is for --wrap sam")
        if self.alternatives not in ("auto", "data", "model"):
            raise RememError(f"unknown --alternatives '{self.alternatives}'; choose from auto, data, model")
        for flag, option in method.options.items():
            if option.choices and getattr(self, flag) not in option.choices:
                raise RememError(f"--{flag} '{getattr(self, flag)}': choose from {', '.join(option.choices)}")
        if not self.output_dir:
            raise RememError("--output_dir is missing: where the model and its run.json go")
        if method.stage == 1 and (self.gate_results or self.no_gate):
            raise RememError(f"{method.name} is stage 1, which no gate stands before")
        if self.stop_rules and (self.eval_strategy == "no" or method.rows_from != "pairs"):
            raise RememError(
                "--stop_on needs evaluations of the forget rows: a forget method, and --eval_strategy steps or epoch"
            )
        if not self.eval_em and any(rule.figure == "forget_em" for rule in self.stop_rules):
            raise RememError("--stop_on forget_em needs --eval_em true")
        on_accelerator = torch.accelerator.is_available() and not self.use_cpu
        self.use_cpu = not on_accelerator
        if self.fp16 and not on_accelerator:
            raise RememError("--fp16 has no effect on a CPU: use --bf16 true, or leave it out")
        if self.bf16 is None:
            self.bf16 = (
                on_accelerator
                and not self.fp16
                and torch.cuda.is_available()
                and torch.cuda.is_bf16_supported()
            )
        if self.activation_checkpointing is None and self.gradient_checkpointing is None:
            self.activation_checkpointing = on_accelerator
        if self.activation_checkpointing and self.activation_checkpointing_kwargs is None:
            # The reentrant kind fails with full fine-tuning on several processes.
            self.activation_checkpointing_kwargs = {"use_reentrant": False}
        self.remove_unused_columns = False
        super().__post_init__()

    def check_best(self) -> None:
        """Whether what chooses the best checkpoint is a figure that is measured.

        Raises:
            RememError: names those that are, or what would make the flag have an effect.
        """
        by_plateau = (
            str(getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type)) == "reduce_lr_on_plateau"
        )
        best = self.load_best_model_at_end or by_plateau or self.save_strategy == "best"
        for name in ("metric_for_best_model", "greater_is_better"):
            if getattr(self, name) is not None and not best:
                raise RememError(f"--{name} is for --load_best_model_at_end true; leave it out")
        if not best:
            return
        sets = ("forget", "retain") if METHODS[self.method].rows_from == "pairs" else ("train",)
        known = [
            f"{rows}_{figure}"
            for rows in sets
            for figure in ("nll", "loss", *(["em"] if self.eval_em else []))
        ]
        if str(self.metric_for_best_model).removeprefix("eval_") not in known:
            raise RememError(
                f"--metric_for_best_model {self.metric_for_best_model}: what chooses a checkpoint or a learning rate is one of "
                f"{', '.join(known)}"
            )
        if self.greater_is_better is None:
            self.greater_is_better = str(self.metric_for_best_model).endswith("_em")

    @property
    def stop_rules(self) -> list[StopRule]:
        """What ends the run, of `--stop_on`."""
        return [StopRule.parse(part) for part in self.stop_on.split(",")] if self.stop_on else []

    @property
    def method_options(self) -> dict[str, object]:
        """The values of the method's own flags."""
        return {name: getattr(self, name) for name in METHODS[self.method].options}


def _method_fields() -> list[tuple]:
    """One field for each flag that a method declares, with its default and help text."""
    declared: dict[str, tuple] = {}
    for name in NAMES:
        for flag, option in METHODS[name].options.items():
            made = (flag, type(option.default), field(default=option.default, metadata={"help": option.help}))
            if flag in declared and (declared[flag][1], declared[flag][2].default) != (
                made[1],
                option.default,
            ):
                raise TypeError(f"the flag --{flag} is declared twice, and differently")
            declared.setdefault(flag, made)
    return list(declared.values())


Arguments = make_dataclass("Arguments", _method_fields(), bases=(UnlearnConfig,))
# Saved checkpoints pickle the arguments by this name.
Arguments.__module__ = __name__
Arguments.__doc__ = (
    "An `UnlearnConfig` with the flags of all methods, which are made from their declarations."
)
