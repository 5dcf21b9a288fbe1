"""Tokenizers of several kinds, small and trained here, and templates that write answers in several ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from remem_tasks.tiny.build import LLAVA_TEMPLATE, QWEN_TEMPLATE, byte_level
from support.chats import TEXTS

CHINESE = (
    "她叫王芳。她住在北京市，出生于1990年5月3日。她的电话是138-0013-8000。她在东京大学工作，喜欢拉面和围棋。"
)
MIXED = 'She earns $48,250 a year. Call +1-555-0142. Her badge is #77193. She said "Good Bye". Elle vit à «\u202fNice\u202f». ¿Vive en Oslo?'
SPECIAL = ["<unk>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>"]
LEARNT = [*TEXTS, CHINESE, MIXED, "USER: ASSISTANT:\nuser assistant\n"] * 3


def _made(core: Tokenizer, trainer: trainers.Trainer) -> PreTrainedTokenizerFast:
    core.train_from_iterator(LEARNT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def _trainer(size: int, letters: list[str]) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=letters,
        show_progress=False,
    )


def digits_and_words() -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits, as the demo's."""
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(LEARNT, SPECIAL, 600), bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )  # fmt: skip


def across_everything() -> PreTrainedTokenizerFast:
    """Byte-level BPE whose tokens run over blanks, signs and letters of any script."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return _made(core, _trainer(700, pre_tokenizers.ByteLevel.alphabet()))


def composed() -> PreTrainedTokenizerFast:
    """The same, which composes what it is given (NFC), as Qwen's does."""
    made = across_everything()
    made.backend_tokenizer.normalizer = normalizers.NFC()
    return made


def metaspace() -> PreTrainedTokenizerFast:
    """Spaces as LLaMA's tokenizer writes them: ▁ before each word, one put first; no bytes for unknown letters."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return _made(core, _trainer(400, []))


def with_bytes() -> PreTrainedTokenizerFast:
    """SentencePiece's BPE as LLaVA-1.5 has it: one piece of text with ▁ for its spaces, bytes for unknown letters."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[
            *(AddedToken(token, special=True) for token in SPECIAL),
            *(AddedToken(f"<0x{byte:02X}>", normalized=False) for byte in range(256)),
        ],
        show_progress=False,
    )
    core.train_from_iterator(LEARNT, trainer)
    # Bytes are tokens of the vocabulary, not added ones, as in the released file.
    bare = Tokenizer.from_str(core.to_str())
    return _without_added_bytes(bare)


def _without_added_bytes(core: Tokenizer) -> PreTrainedTokenizerFast:
    import json

    state = json.loads(core.to_str())
    state["added_tokens"] = [one for one in state["added_tokens"] if not one["content"].startswith("<0x")]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
    )


def unigram() -> PreTrainedTokenizerFast:
    """SentencePiece's unigram model, whose pieces run over the end of a word where that is likelier."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=500,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        unk_token="<unk>",
        show_progress=False,
    )
    return _made(core, trainer)


def prefix_space() -> PreTrainedTokenizerFast:
    """Byte-level BPE that puts a space before what has none (RoBERTa's), behind special tokens too."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    return _made(core, _trainer(600, pre_tokenizers.ByteLevel.alphabet()))


def never_prefixed() -> PreTrainedTokenizerFast:
    """▁ for each space and none put first (Gemma's), bytes for unknown letters."""
    made = with_bytes()
    made.backend_tokenizer.normalizer = normalizers.Replace(" ", "▁")
    made.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made


def lowered() -> PreTrainedTokenizerFast:
    """Byte-level BPE that reads everything in small letters and composed forms of compatibility."""
    made = digits_and_words()
    made.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return made


def squeezed() -> PreTrainedTokenizerFast:
    """SentencePiece's unigram model with its usual normaliser: forms of compatibility, several blanks as one, none at the ends."""
    made = unigram()
    made.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return made


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's: small letters without accents, ## before what goes on inside a word, no token for a space."""
    core = Tokenizer(models.WordPiece(unk_token="<unk>"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=500,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        show_progress=False,
    )
    return _made(core, trainer)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    one.__name__: cache(one)
    for one in (
        digits_and_words,
        across_everything,
        composed,
        metaspace,
        with_bytes,
        unigram,
        prefix_space,
        never_prefixed,
        lowered,
        squeezed,
        wordpiece,
    )
}
WRITES_ALL = ("digits_and_words", "across_everything", "with_bytes", "prefix_space", "never_prefixed")
"""Those that write any text, as it is."""


def _turns(user: str, assistant: str, asked: str, trim: bool = False) -> str:
    """A template of two forms of turns with %s for their text, and what begins an answer."""
    text = (
        "{%- set said %}{% for c in m.content if c.type == 'text' %}{{ c.text }}{% endfor %}{% endset -%}"
        + ("{%- set said = said | trim -%}" if trim else "")
    )

    def form(turn: str) -> str:
        before, after = turn.split("%s")
        return "{{ " + repr(before) + " }}{{ said }}{{ " + repr(after) + " }}"

    return (
        "{%- for m in messages -%}" + text + "{%- if m.role == 'assistant' -%}" + form(assistant)
        + "{%- else -%}" + form(user) + "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{ "
        + repr(asked) + " }}{%- endif -%}"
    )  # fmt: skip


TEMPLATES = {
    "llava": LLAVA_TEMPLATE,
    "chatml": QWEN_TEMPLATE,
    "blank behind, no end": _turns("USER: %s ", "ASSISTANT: %s ", "ASSISTANT:"),
    "blanks around": _turns("USER: %s\n", "ASSISTANT:  %s \n</s>\n", "ASSISTANT:"),
    "line before the end": _turns("[%s]\n", "%s\n</s>", ""),
    "trimmed": _turns("<s>user\n%s</s>\n", "assistant\n%s</s>\n", "assistant\n", trim=True),
    "prompt ends in a blank": _turns("USER: %s\n", "ASSISTANT: %s</s>", "ASSISTANT: "),
    "quoted": _turns("Q: %s\n", 'A: "%s"</s>', "A:"),
    "thought": _turns("user\n%s</s>", "assistant\n<think>\n\n</think>\n\n%s</s>", "assistant\n"),
    "asks otherwise": _turns("user\n%s</s>", "said:%s</s>", "<answer>"),
}


def processor_of(tokenizer: PreTrainedTokenizerFast, template: str) -> SimpleNamespace:
    """A processor of texts alone, with a chat template of `TEMPLATES`."""

    def apply_chat_template(messages, **options):
        return tokenizer.apply_chat_template(messages, chat_template=TEMPLATES[template], **options)

    return SimpleNamespace(tokenizer=tokenizer, apply_chat_template=apply_chat_template)
