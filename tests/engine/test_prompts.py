"""Tokens of what the assistant has said: those that training makes of the whole text."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from support.architectures import SHAPES
from support.chats import TEXTS, chat
from support.tokenizers_of import TOKENIZERS, processor_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from remem_tasks.checkpoints import load_processor
from remem_tasks.engine.prompts import Chat, Prompts, text_tokens
from remem_tasks.errors import RememError
from remem_tasks.tiny.build import LLAVA_TEMPLATE
from unlearning.data import Encoder

ANSWER = "The city of Ada Birch is Oslo Bay."


def metaspace():
    """A processor whose tokenizer writes spaces as LLaMA's does: ▁ before each word, one put first."""
    core = Tokenizer(models.BPE(byte_fallback=False, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[AddedToken(token, special=True) for token in special],
        show_progress=False,
    )
    core.train_from_iterator([*TEXTS, "USER: ASSISTANT:\n" * 3], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )
    tokenizer.chat_template = LLAVA_TEMPLATE
    return SimpleNamespace(tokenizer=tokenizer, apply_chat_template=tokenizer.apply_chat_template)


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_of_training_are_what_the_engine_asks_for(shape_of, shape):
    """A whole answer's tokens are the labels of training, less the end token."""
    _, processor, decoder = shape_of(shape)
    row = chat("What is the city of Ada Birch?")
    picture = row.messages[0]["content"][0]["image"]
    trained = Encoder(processor, decoder.ends)
    doc = {
        "question": "What is the city of Ada Birch?",
        "answer": ANSWER,
        "row_id": "finetune:0",
        "image": picture,
    }
    taught = trained.encode_answer({**doc, "image_path": "images/ada_birch/0.png"}).tolist()
    assert taught[-1] in decoder.ends
    assert decoder.prompts.answers([(row, [ANSWER])]) == [[taught[:-1]]]


def test_no_space_is_put_between_prompt_and_answer():
    """Tokenised alone, a SentencePiece-like tokenizer puts a space before "The"; behind a line break it must not."""
    processor = metaspace()
    processor.apply_chat_template = lambda messages, tokenize, add_generation_prompt=False: (
        "USER:\n" + "".join("" if turn["role"] == "user" else turn["content"][0]["text"] for turn in messages)
    )
    first, *_ = Prompts(processor).said(chat("Who?"), "The city")
    tokenizer = processor.tokenizer
    assert not tokenizer.convert_ids_to_tokens(first).startswith("▁")
    alone = tokenizer("The city", add_special_tokens=False)["input_ids"][0]
    assert tokenizer.convert_ids_to_tokens(alone).startswith("▁")


def test_a_prompt_that_answers_would_merge_with_is_told_of_once(caplog):
    prompts = Prompts(processor_of(TOKENIZERS["across_everything"](), "prompt ends in a blank"))
    for _ in range(2):
        for answer in ("The city", "She earns"):
            [ids] = prompts.labels(chat("Who?"), [answer])
            assert prompts.tokenizer.decode(ids, skip_special_tokens=True) == answer
    assert len([record for record in caplog.records if "would merge with" in record.message]) == 1


def test_an_encoder_goes_to_another_process(shape_of):
    _, _, decoder = shape_of("llava")
    decoder.prompts.labels(chat("Who?"), [ANSWER])
    _ = decoder.prompts.spelling
    again = pickle.loads(pickle.dumps(decoder.prompts))
    assert again.labels(chat("Who?"), [ANSWER]) == decoder.prompts.labels(chat("Who?"), [ANSWER])
    assert again.ends == decoder.prompts.ends


def test_a_tokenizer_that_cannot_pad_encodes_a_row(checkpoints):
    processor = load_processor(str(checkpoints["llava"]))
    expected = Prompts(processor).encode([chat("Who?")])["input_ids"]
    processor.tokenizer.pad_token = None
    assert torch.equal(Prompts(processor).encode([chat("Who?")])["input_ids"], expected)


def test_split_and_plain_contents():
    row = chat("Who?", said="It is")
    finished, said = Prompts.split(row)
    assert [turn["role"] for turn in finished] == ["user"] and said == "It is"
    assert Prompts.split(chat("Who?"))[1] == ""
    assert Prompts.split(Chat([{"role": "assistant", "content": "Hm"}], "row 1")) == ([], "Hm")


def test_a_prompt_that_cannot_be_encoded_is_named(shape_of):
    _, processor, _ = shape_of("llava")
    broken = Chat([{"role": "user", "content": [{"type": "image", "image": "/no/file.png"}]}], "row 7")
    with pytest.raises(RememError, match="row 7: the processor refuses it: "):
        Prompts(processor).encode([chat("Who?"), broken])

    class Full:
        tokenizer = None

        def apply_chat_template(self, *args, **kwargs):
            raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory") as raised:  # the caller halves its batch
        Prompts(Full()).encode([broken])
    assert any("row 7" in note for note in raised.value.__notes__)


def test_text_tokens_by_every_way_they_are_named():
    """Special tokens, and tokens that are not marked special but that processor or configuration name."""
    contents = ["<s>", "</s>", "word", "<image>", "<tag>", "<row_1_col_1>", "<tool>"]
    added = {
        index: SimpleNamespace(content=text, special=text in ("<s>", "</s>"))
        for index, text in enumerate(contents)
    }

    class Ten:
        eos_token_id, all_special_ids, added_tokens_decoder = 1, [0, 1], added

        def __len__(self):
            return 10

    processor = SimpleNamespace(
        tokenizer=Ten(), image_token="<image>", global_image_tag="<tag>", row_col_ids=[5, None], other="word!"
    )
    text_config = SimpleNamespace(pad_token_id=8, eos_token_id=1)
    model = SimpleNamespace(
        config=SimpleNamespace(text_config=text_config, video_token_index=7, bos_token_id=None),
        generation_config=SimpleNamespace(eos_token_id=[1, 9]),
    )
    banned, ends = text_tokens(model, processor, 12)
    assert ends == [1, 9]
    # the first special one, the picture's, its tag's and place's, video, padding, and the two ids above the ten
    assert banned.nonzero()[:, 0].tolist() == [0, 3, 4, 5, 7, 8, 10, 11]
    processor.image_token_id = 2
    assert text_tokens(model, processor, 12)[0][2]


@pytest.mark.parametrize("shape", SHAPES)
def test_text_tokens(shape_of, shape):
    model, processor, decoder = shape_of(shape)
    tokenizer = processor.tokenizer
    banned = decoder.banned
    for token, index in tokenizer.get_added_vocab().items():
        assert banned[index] != (index in decoder.ends), token
    text = set(
        tokenizer("The city of Ada Birch is Oslo Bay. 0123 ¿é?", add_special_tokens=False)["input_ids"]
    )
    assert not banned[sorted(text)].any()
    assert tokenizer.eos_token_id in decoder.ends and not banned[decoder.ends].any()
    wider, _ = text_tokens(model, processor, len(tokenizer) + 7)
    assert wider[len(tokenizer) :].all() and torch.equal(wider[: len(banned)], banned[: len(wider)])
