"""Methods that leave the weights alone: what changes a model's answers lies beside them in its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from remem_tasks import steering
from remem_tasks.chat_template import check_system, guarded
from remem_tasks.errors import RememError
from remem_tasks.steering import Steering
from unlearning.data import Encoder, Examples, Role, evenly
from unlearning.forward import Forward
from unlearning.mechanisms import autoencoder
from unlearning.mechanisms.autoencoder import Autoencoder
from unlearning.trainer import UnlearnTrainer

if TYPE_CHECKING:
    from remem_tasks.benchmarks.training_rows import TrainingRows


class Steered(UnlearnTrainer):
    """A method whose checkpoint has a steering file."""

    trains = False
    adapters = False
    whole = True

    def steer(self, how: Steering, told: str) -> None:
        """Steer the model, and note in words what was done."""
        steering.put_on(self.accelerator.unwrap_model(self.model), how)
        self.notes["steered"] = told

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Weights under a name that other loaders do not find, and what steers them."""
        folder, model = output_dir or self.args.output_dir, self.accelerator.unwrap_model(self.model)
        how = steering.steering_of(model)
        if how is None:
            raise RememError(f"{self.name} has not steered the model yet")
        if self.args.should_save:
            Path(folder).mkdir(parents=True, exist_ok=True)
            steering.save(model, how, folder)
            self.processing_class.save_pretrained(folder)


def _examples(rows: TrainingRows, encoder: Encoder, most: int) -> tuple[list, list]:
    forget, retain = (Examples(table, Role.PLAIN, encoder) for table in (rows.forget, rows.retain))
    lost = [forget.example(index) for index in evenly(len(forget), most)]
    return lost, [retain.example(index) for index in evenly(len(retain), most)]


def trained_here(forward: Forward, examples: list, args: Any) -> Autoencoder:
    """An autoencoder by the flags of a run."""
    layer = autoencoder.layer_of(forward.model, args.sae_layer, "--sae_layer")
    states = autoencoder.states_of(forward, examples, len(examples), layer, args.sae_states, args.seed)
    width = args.sae_width * states.shape[1]
    sizes = {"width": width, "active": min(args.sae_active, width), "steps": args.sae_steps}
    return autoencoder.fit(states, layer, **sizes, seed=args.seed, device=args.device)


def by_autoencoder(
    forward: Forward, rows: TrainingRows, encoder: Encoder, args: Any, start: str
) -> tuple[Steering, str]:
    """What scales the features that are active in forget rows and not in retain rows; in words, how many those are.

    Args:
        forward: of the model before unlearning.
        args: the flags `sae…` of a run, and its seed.
        start: digest of the model.

    Raises:
        RememError: an autoencoder of another model, or no such feature.
    """
    forget, retain = _examples(rows, encoder, args.sae_rows)
    if args.sae:
        made = autoencoder.read(args.sae)
        if made.of != start:
            raise RememError(
                f"--sae '{args.sae}' was trained on another model, or in another precision ({made.of}), than this one ({start})"
            )
    else:
        made = trained_here(forward, [*forget, *retain], args)
    lost, kept = (autoencoder.activity(forward, some, made) for some in (forget, retain))
    chosen = autoencoder.choose(lost, kept, args.sae_features, args.sae_ratio)
    told = (
        f"{len(chosen)} of {len(made.bias)} features of decoder layer {made.layer}, times {args.sae_scale:g}"
    )
    return made.steering(chosen, args.sae_scale), told


def people_of(rows: TrainingRows) -> str:
    """Who is to be forgotten, by the names of their identities: `aimee_cithford` is Aimee Cithford.

    Raises:
        RememError: the rows do not tell.
    """
    if rows.forget is None or "identity" not in rows.forget.column_names:
        raise RememError("--guardrail_prompt: the rows name no identities; write it without {people}")
    names = dict.fromkeys(str(name) for name in rows.forget["identity"][:])
    return ", ".join(name.replace("_", " ").replace("-", " ").strip().title() for name in names)


def guard(trainer: UnlearnTrainer, prompt: str) -> None:
    """Put a system prompt into the chat template of a trainer's processor, which is saved beside the weights.

    Raises:
        RememError: the template takes no system turn.
    """
    text = prompt.replace("{people}", people_of(trainer.rows)) if "{people}" in prompt else prompt
    check_system(trainer.processing_class, trainer.model.name_or_path)
    trainer.processing_class = guarded(trainer.processing_class, text)
    trainer.encoder = Encoder(trainer.processing_class, trainer.encoder.prompts.ends, 0)
    for examples in (trainer.eval_dataset or {}).values():
        examples.encoder = trainer.encoder
    trainer.notes["guarded"] = text
