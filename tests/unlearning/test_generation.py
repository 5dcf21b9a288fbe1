"""Replies in training and of the engine do not depend on the checkpoint's generation_config."""

import json
import shutil

import pytest
import torch
from transformers import GenerationConfig

from remem_tasks.checkpoints import load_model, load_processor
from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat
from unlearning import evaluation
from unlearning.data import picture_of
from unlearning.generation import generate
from unlearning.mechanisms import alternatives

# Every setting that changes what `generate` says, each as some published checkpoint has it or worse.
HOSTILE = {
    "no_repeat_ngram_size": 2,
    "repetition_penalty": 3.0,
    "encoder_repetition_penalty": 2.0,
    "encoder_no_repeat_ngram_size": 1,
    "bad_words_ids": [[5], [9, 11], [40]],
    "suppress_tokens": list(range(20, 90)),
    "begin_suppress_tokens": list(range(90, 200)),
    "sequence_bias": [[[30], 50.0]],
    "min_length": 40,
    "min_new_tokens": 12,
    "max_length": 7,
    "forced_bos_token_id": 7,
    "forced_eos_token_id": 8,
    "exponential_decay_length_penalty": [1, 3.0],
    "num_beams": 3,
    "length_penalty": 4.0,
    "early_stopping": True,
    "do_sample": True,
    "temperature": 0.01,
    "top_k": 1,
    "top_p": 0.1,
    "min_p": 0.9,
    "typical_p": 0.1,
    "epsilon_cutoff": 0.3,
    "eta_cutoff": 0.3,
    "renormalize_logits": True,
    "guidance_scale": 3.0,
    "stop_strings": ["e"],
    "prompt_lookup_num_tokens": 3,
    "use_cache": False,
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
    "output_scores": True,
    "watermarking_config": {"bias": 9.0},
}
LORA = ("--use_peft", "--lora_r", "4")


@pytest.fixture
def hostile():
    """Gives a model each of the settings, by name."""

    def spoil(model, names):
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        own = GenerationConfig(eos_token_id=base.generation_config.eos_token_id)
        for name in names:
            setattr(own, name, HOSTILE[name])
        base.generation_config = model.generation_config = own
        return own

    return spoil


@pytest.mark.parametrize("flags", [(), LORA], ids=["full", "adapter"])
def test_training_replies_and_alternatives_ignore_it(make_trainer, hostile, flags):
    trainer = make_trainer("grad_diff", "llava", *flags)
    model = trainer.model.eval()
    rows = [trainer.train_dataset.forget.example(index) for index in range(3)]
    inputs = evaluation.prompts(rows, trainer.data_collator.pad_token_id)

    def said(samples):
        torch.manual_seed(0)
        ends = trainer.encoder.stop_ids
        return generate(
            model, trainer.encoder.processor, inputs, max_new_tokens=10, ends=ends, samples=samples
        ).tolist()

    plain = said(0), said(2)
    assert len(plain[1]) == 6 and len({tuple(ids) for ids in plain[1]}) > 3
    row = trainer.rows.forget[0]
    invented = alternatives.invented(model, trainer.encoder, row, 3, trainer.args.alternatives_tokens, 0)
    for names in (
        list(HOSTILE),
        ["no_repeat_ngram_size", "bad_words_ids", "suppress_tokens", "min_new_tokens"],
    ):
        own = hostile(model, names)
        assert (said(0), said(2)) == plain, names
        base = model.get_base_model() if flags else model
        assert base.generation_config is own and model.generation_config is own, "it is given back"
    assert (
        alternatives.invented(model, trainer.encoder, row, 3, trainer.args.alternatives_tokens, 0) == invented
    )
    assert evaluation.greedy(
        trainer.forward, trainer.encoder, rows, 10
    ) == trainer.encoder.tokenizer.batch_decode(plain[0], skip_special_tokens=True)


def test_it_is_given_back_after_an_error(make_trainer, hostile):
    trainer = make_trainer("grad_diff", "llava")
    own = hostile(trainer.model, ["min_new_tokens"])
    with pytest.raises(Exception, match="nowhere"):
        generate(trainer.model, trainer.encoder.processor, {"input_ids": torch.zeros(1, 2), "nowhere": 1}, max_new_tokens=2, ends=[1])  # fmt: skip
    assert trainer.model.generation_config is own


def test_greedy_replies_are_those_of_the_engine(make_trainer):
    """Tokens that are no text are said by neither."""
    trainer = make_trainer("grad_diff", "llava")
    trainer.model.eval()
    processor = trainer.encoder.processor
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    with torch.no_grad():  # a model that would rather draw
        head = trainer.model.get_output_embeddings()
        head.weight[image] = head.weight.mean(0) * 50
    rows = [trainer.rows.forget[index] for index in range(3)]
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": picture_of(row)}, {"type": "text", "text": row["question"]}]}]
        for row in rows
    ]  # fmt: skip
    decoder = Decoder(trainer.model, processor)
    replies = decoder.greedy(decoder.prefill([Chat(turns, "row") for turns in asked]), 10)
    examples = [trainer.train_dataset.forget.example(index) for index in range(3)]
    engine = [processor.tokenizer.decode(reply.tokens, skip_special_tokens=True) for reply in replies]
    assert engine == evaluation.greedy(trainer.forward, trainer.encoder, examples, 10)


def test_the_engine_ignores_it(checkpoints, tmp_path):
    folder = tmp_path / "hostile"
    shutil.copytree(checkpoints["llava"], folder)
    own = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**own, **HOSTILE}))
    chats = [Chat([{"role": "user", "content": [{"type": "text", "text": text}]}], "row") for text in ("Who?", "Is it so?")]  # fmt: skip
    found = []
    for place in (checkpoints["llava"], folder):
        decoder = Decoder(load_model(str(place)), load_processor(str(place)))
        state = decoder.prefill(chats)
        drawn = decoder.sample(state, 3, 6, [0, 1])
        found.append(([reply.tokens for reply in decoder.greedy(state, 8)], [one.tokens for one in drawn]))
    assert found[0] == found[1]
