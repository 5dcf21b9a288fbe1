"""Parts of an answer have the tokens that they have in the answer as it was taught, whatever tokenizer and template."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chats import chat
from support.tokenizers_of import CHINESE, MIXED, TEMPLATES, TOKENIZERS, WRITES_ALL, processor_of
from transformers.modeling_outputs import CausalLMOutput

from remem_tasks.engine.decoder import Decoder
from remem_tasks.engine.prompts import Chat, Given, Prompts
from remem_tasks.engine.spelling import Spelling
from remem_tasks.engine.whitebox import answer
from remem_tasks.errors import RememError
from remem_tasks.metrics import cut_points, exposure, memo
from remem_tasks.whitebox import Secret, WhiteBoxRequest

ASKED = Chat([{"role": "user", "content": [{"type": "text", "text": "Who is it?"}]}], "row 7")
SENTENCES = [
    CHINESE,
    MIXED,
    "The city of Ada Birch is Oslo Bay.",
    "안녕하세요 서울에서",
    "เธออยู่ที่กรุงเทพ",
    "naı̈ve café e\u0301te\u0301 👩‍🔬 26,100",
]
KINDS = [(tokenizer, template) for tokenizer in TOKENIZERS for template in TEMPLATES]


def prompts_of(tokenizer, template):
    return Prompts(processor_of(TOKENIZERS[tokenizer](), template))


@st.composite
def texts(draw):
    """Pieces of sentences in any order, with blanks between some and around."""
    pieces = []
    for _ in range(draw(st.integers(1, 3))):
        sentence = draw(st.sampled_from(SENTENCES))
        start = draw(st.integers(0, len(sentence) - 1))
        pieces.append(sentence[start : draw(st.integers(start + 1, len(sentence)))])
    return draw(st.sampled_from(["", " ", "\n"])) + draw(st.sampled_from(["", " "])).join(pieces) + draw(st.sampled_from(["", " ", "\n"]))  # fmt: skip


@pytest.mark.parametrize(("tokenizer", "template"), KINDS)
@settings(max_examples=12, deadline=None)
@given(text=texts(), data=st.data())
def test_beginning_and_rest_are_the_whole(tokenizer, template, text, data):
    """Beginning + rest have the tokens of the whole; the beginning's end is said by the token it ends in."""
    prompts = prompts_of(tokenizer, template)
    if not text.strip():
        return
    [whole] = prompts.labels(ASKED, [text])
    spelled = prompts.spelling.of(whole)
    cut = data.draw(st.integers(0, len(text)))
    [[begun]] = prompts.beginnings([(ASKED, text, [cut])])
    said = text[:cut].lstrip()
    if tokenizer in WRITES_ALL:
        assert whole[: len(begun.tokens)] == begun.tokens
        lead = prompts.turn(ASKED).lead if said else ""
        read = b"".join(prompts.spelling.of(begun.tokens))
        if len(said) <= len(text.strip()):
            assert read + begun.open == (lead + said).encode()
        if begun.open:
            assert spelled[len(begun.tokens)].startswith(begun.open)
    elif begun.open:
        assert whole[: len(begun.tokens)] == begun.tokens
        assert spelled[len(begun.tokens)].startswith(begun.open)
    # the answer with what ends its turn, and without
    [[plain]] = prompts.answers([(ASKED, [text])])
    assert whole[: len(plain)] == plain and len(plain) < len(whole)
    assert text.strip().encode() in b"".join(spelled) or tokenizer not in WRITES_ALL


@pytest.mark.parametrize(("tokenizer", "template"), KINDS)
@settings(max_examples=12, deadline=None)
@given(text=texts(), data=st.data())
def test_what_leads_to_a_secret_and_the_secret_are_the_whole(tokenizer, template, text, data):
    prompts, text = prompts_of(tokenizer, template), text.strip()
    if len(text) < 2:
        return
    [whole] = prompts.labels(ASKED, [text])
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    before = text[:start].rstrip()
    [asked] = prompts.parts([(ASKED, before, [text[len(before) : end], " Rome"], text[end:])])
    secret, other = asked.candidates
    if tokenizer in WRITES_ALL:
        both = asked.given.tokens + secret
        assert whole[: len(both)] == both and secret
        lead = prompts.turn(ASKED).lead
        said, wanted = b"".join(prompts.spelling.of(both)), (lead + text[:end]).encode()
        assert said.startswith(wanted)
        assert not b"".join(prompts.spelling.of(both[:-1])).startswith(wanted)  # no token more than it takes
        assert b"".join(prompts.spelling.of(other)).startswith(asked.given.open)
    assert secret and other


def test_a_secret_that_the_tokenizer_cannot_write_is_not_said_already():
    """Without a token its probability would be that of nothing, 1."""
    prompts = prompts_of("wordpiece", "llava")
    [asked] = prompts.parts([(ASKED, "เธออย", ["ู่", " Rome"], "ที่กรุงเทพ")])
    assert asked.candidates[0] == [prompts.tokenizer.unk_token_id]
    prompts.tokenizer.unk_token, kept = None, prompts.tokenizer.unk_token
    try:
        with pytest.raises(RememError, match="has no token for"):
            prompts.parts([(ASKED, "เธออย", ["ู่"], "")])
    finally:
        prompts.tokenizer.unk_token = kept


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_tokens_are_spelled_as_they_decode(tokenizer):
    made = TOKENIZERS[tokenizer]()
    spelling = Spelling(made)
    for text in SENTENCES:
        ids = made(text, add_special_tokens=False)["input_ids"]
        if made.unk_token_id not in ids:
            spelled = b"".join(spelling.of(ids)).decode()
            assert spelled.replace(" ", "") == made.decode(ids).replace(" ", "")
            apart = ("unigram", "squeezed", "wordpiece")  # write no blanks, or decode to one less
            assert tokenizer in apart or spelled.lstrip() == made.decode(ids).lstrip()
    assert spelling.of(made.all_special_ids) == [b""] * len(made.all_special_ids)
    (single,) = made(":", add_special_tokens=False)["input_ids"][-1:]
    sign = spelling.of([single])[0].strip()
    assert sign == b":" and single in [*spelling.covering(spelling.of([single])[0])]


def test_covering_and_within_golden():
    vocabulary = {"a": 0, "ab": 1, "abc": 2, "b": 3, "▁": 4, "<0x61>": 5, "</s>": 6}
    end = SimpleNamespace(special=True)
    tokenizer = SimpleNamespace(
        get_vocab=lambda: vocabulary, added_tokens_decoder={6: end}, all_special_ids=[6]
    )
    spelling = Spelling(tokenizer)
    assert sorted(spelling.covering(b"ab")) == [1, 2] and sorted(spelling.within(b"ab")) == [0, 5]
    assert spelling.covering(b" ") == (4,) and spelling.within(b" ") == () and spelling.covering(b"x") == ()
    assert spelling.of([6, 99, 5]) == [b"", b"", b"a"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_ends_answers_once(template):
    prompts = prompts_of("digits_and_words", template)
    [ids] = prompts.labels(ASKED, ["Oslo."])
    assert ids[-1] in prompts.ends or template == "chatml"
    assert prompts.tokenizer.decode(ids, skip_special_tokens=True).count("Oslo.") == 1
    [blanks] = prompts.labels(ASKED, [" \nOslo.\n "])
    assert blanks == ids
    with pytest.raises(RememError, match="row 7: its answer holds '</s>'"):
        prompts.labels(ASKED, ["Os</s>lo"])


# A model that has learned one answer and nothing else

START = 3  # tokens of its prompt


class Parrot(torch.nn.Module):
    """Says the next token of the answer with p near 1 behind each token of it in its place; elsewhere anything."""

    def __init__(self, vocabulary, answer, certain=30.0):
        super().__init__()
        self.here = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
        text = SimpleNamespace(vocab_size=vocabulary, num_hidden_layers=1, hidden_size=1)
        self.config = SimpleNamespace(get_text_config=lambda: text, text_config=text)
        self.dtype, self.answer, self.certain = torch.float32, answer, certain

    def forward(self, input_ids, attention_mask, position_ids, past_key_values, use_cache):
        draw = torch.Generator().manual_seed(0)
        noise = torch.randn(self.config.text_config.vocab_size, generator=draw)
        logits = noise.expand(*input_ids.shape, -1).clone()
        for at, (token, place) in enumerate(
            zip(input_ids.flatten().tolist(), position_ids.flatten().tolist())
        ):
            done = place - START + 1
            if done == 0 or (0 < done < len(self.answer) and self.answer[done - 1] == token):
                logits.view(-1, logits.shape[-1])[at, self.answer[done]] = self.certain
        return CausalLMOutput(logits=logits)


def parrot(tokenizer, template, text):
    processor = processor_of(TOKENIZERS[tokenizer](), template)
    [taught] = Prompts(processor).labels(ASKED, [text])
    decoder = Decoder(Parrot(len(processor.tokenizer), taught), processor)
    ids = torch.full((1, START), taught[0])
    state = decoder.begin({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ["row 7"])
    return decoder, state


@pytest.mark.parametrize("text", [MIXED, CHINESE, "The city of Ada Birch is Oslo Bay."])
@pytest.mark.parametrize("tokenizer", ["digits_and_words", "across_everything", "with_bytes"])
@pytest.mark.parametrize("template", ["llava", "line before the end", "blanks around", "thought"])
def test_a_model_that_says_an_answer_word_for_word_has_memo_and_exposure_1(tokenizer, template, text):
    decoder, state = parrot(tokenizer, template, text)
    cuts = tuple(cut_points(text))
    places = range(2, len(text) - 3, 7)
    secrets = [
        Secret(text[:at].rstrip(), text[len(text[:at].rstrip()) : at + 3], after=text[at + 3 :])
        for at in places
    ]
    asked = WhiteBoxRequest("r", "row 7", text, cuts, 60, tuple(secrets), rollouts=8)
    [(reply, found)] = answer(decoder, state, [ASKED], [asked], [80])
    if len(reply.tokens) < 80:
        assert decoder.prompts.text(reply.tokens).strip().endswith(text)
    assert memo(text, found.continuations) == 1.0
    assert [exposure(one.ranks[1], 8) for one in found.secrets] == [1.0] * len(secrets)
    assert all(sum(one.logprobs) > -1e-3 for one in found.secrets)
    assert all(one.guesses[0][1] > -1e-3 for one in found.secrets)


def test_the_end_of_a_beginning_is_said_and_not_scored():
    """ "The ci" goes on with "ty", by the likeliest token that says " ci" first, though others are likelier."""
    text = "The city of Ada Birch is Oslo Bay."
    decoder, state = parrot("digits_and_words", "llava", text)
    [[begun]] = decoder.prompts.beginnings([(ASKED, text, [6])])
    assert begun.open == b" ci"
    behind, (first,), [read] = decoder.begun(state, [0], [begun])
    [(said)] = decoder.prompts.spelling.of([first])
    assert said == b" city" and read == begun
    [reply] = decoder.greedy(behind, 50, [first])
    assert decoder.prompts.text_behind(begun, reply.tokens) == "ty of Ada Birch is Oslo Bay."
    # a model that has not learned it says something that begins so all the same
    decoder.model.answer = [0]
    behind, (first,), [read] = decoder.begun(state, [0], [begun])
    [reply] = decoder.greedy(behind, 5, [first])
    whole = b"".join(decoder.prompts.spelling.of([*read.tokens, *reply.tokens]))
    assert whole.startswith(b" The ci")


def test_an_end_is_said_in_several_tokens_where_that_is_likelier():
    text = "The city of Ada Birch is Oslo Bay."
    decoder, _ = parrot("digits_and_words", "llava", text)
    spelling = decoder.prompts.spelling
    [space], [letter] = spelling.covering(b" ")[:1], [spelling.covering(b"c")[0]]
    assert spelling.of([space, letter]) == [b" ", b"c"]
    [[begun]] = decoder.prompts.beginnings([(ASKED, text, [6])])
    decoder.model.answer = [*begun.tokens, space, letter]  # what it prefers
    _, (first,), [read] = decoder.begun(decoder.begin({"input_ids": torch.full((1, START), 9), "attention_mask": torch.ones(1, START)}, ["r"]), [0], [begun])  # fmt: skip
    assert read.tokens == [*begun.tokens, space, letter] and read.open == b"i"
    assert spelling.of([first])[0].startswith(b"i")


def test_p_is_given_what_the_beginning_leaves_open():
    decoder, state = parrot("digits_and_words", "llava", "The city of Ada Birch is Oslo Bay.")
    behind = decoder.extend(state, [0], [[]])
    before = behind.logp[0].exp()
    decoder.conditioned(behind, [Given([], b" c")])
    allowed = [*decoder.prompts.spelling.covering(b" c"), *decoder.prompts.spelling.within(b" c")]
    expected = torch.zeros_like(before)
    expected[allowed] = before[allowed] / before[allowed].sum()
    assert torch.allclose(behind.logp[0].exp(), expected, atol=1e-6)


def test_pictures_do_not_matter_to_an_answer(shape_of):
    _, processor, decoder = shape_of("qwen2_5_vl")
    row = chat("What is the city of Ada Birch?")
    [ids] = decoder.prompts.labels(row, ["The city is Oslo Bay."])
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == "The city is Oslo Bay."
