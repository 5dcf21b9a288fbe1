"""What the model is given: labels, roles, pairs; the defects found upstream that live in a collator."""

from collections import Counter

import pytest
import torch

from remem_tasks.benchmarks.remem.data import load_split, retain_rows
from remem_tasks.checkpoints import load_processor
from remem_tasks.data.pictures import decode_image
from remem_tasks.errors import RememError
from remem_tasks.tiny.build import ARCHS
from unlearning.data import (
    IGNORE,
    Collator,
    Encoder,
    EpochSampler,
    Examples,
    Pairs,
    Role,
    check_pictures,
    load_rows,
)
from unlearning.refusals import REFUSALS


@pytest.fixture(scope="module", params=ARCHS)
def encoder(request, checkpoints):
    return Encoder(load_processor(str(checkpoints[request.param])))


@pytest.fixture(scope="module")
def tables(data_dir):
    finetune, forget = load_split(str(data_dir), "finetune"), load_split(str(data_dir), "forget1")
    return forget, retain_rows(finetune, forget)


def labels_of(batch, row):
    return batch["labels"][row][batch["labels"][row] != IGNORE]


def test_labels_are_the_answer_and_the_end_of_turn(encoder, tables):
    forget, _ = tables
    examples = Examples(forget, Role.FORGET, encoder)
    batch = Collator(0)([examples[index] for index in range(len(examples))])
    for row, source in enumerate(forget):
        decoded = encoder.tokenizer.decode(labels_of(batch, row))
        assert decoded.strip() == source["answer"] + encoder.tokenizer.eos_token


def test_no_picture_prompt_or_padding_token_is_a_label(encoder, tables):
    forget, _ = tables
    examples = Examples(forget, Role.FORGET, encoder)
    batch = Collator(encoder.tokenizer.pad_token_id)([examples[index] for index in range(len(examples))])
    picture = encoder.tokenizer.convert_tokens_to_ids(encoder.processor.image_token)
    labelled = batch["labels"] != IGNORE
    assert (batch["input_ids"] == picture).sum(1).min() > 1, (
        "the processor expands one picture to many tokens"
    )
    assert not (batch["input_ids"][labelled] == picture).any()
    assert not labelled[batch["attention_mask"] == 0].any()
    for row in range(len(forget)):
        first = labelled[row].nonzero()[0].item()
        assert labelled[row, first:][batch["attention_mask"][row, first:] == 1].all(), "labels end the row"
        prompt = encoder.tokenizer.decode(batch["input_ids"][row, :first])
        assert forget[row]["question"] in prompt and forget[row]["answer"] not in prompt


def test_prompt_is_what_the_chat_template_gives_any_harness(encoder, tables):
    row = tables[0][0]
    message = {
        "role": "user",
        "content": [
            {"type": "image", "image": decode_image(row["image"], "row")},
            {"type": "text", "text": row["question"]},
        ],
    }
    theirs = encoder.processor.apply_chat_template(
        [message], tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    ours = encoder.encode_prompt(row)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


def processed(encoder, texts, pictures, **options):
    """One processor call, with its special tokens unless the template has written them."""
    bos = encoder.tokenizer.bos_token
    special = not (bos and texts[0].startswith(bos))
    return encoder.processor(
        images=pictures, text=texts, return_tensors="pt", add_special_tokens=special, **options
    )


def whole_text(encoder, row):
    turn = encoder.prompts.turn(encoder.chat(row))
    return turn.prompt + turn.lead + row["answer"] + turn.tail


def test_prompt_and_answer_together_are_the_joint_tokens(encoder, tables, caplog):
    for row in tables[0]:
        encoder.check(row)
    assert not caplog.records
    row = tables[0][0]
    joint = processed(encoder, [whole_text(encoder, row)], [[decode_image(row["image"], "row")]])
    made = torch.cat([encoder.encode_prompt(row)["input_ids"][0], encoder.encode_answer(row)])
    assert torch.equal(made, joint["input_ids"][0])


def test_a_batch_is_what_one_processor_call_gives(encoder, tables):
    """Encoding row by row (so that it can be kept) loses nothing against a call on the whole batch."""
    forget, _ = tables
    rows = [forget[index] for index in (0, 3, 5)]
    texts, pictures = [], []
    for row in rows:
        texts.append(whole_text(encoder, row))
        pictures.append([decode_image(row["image"], "row")])
    joint = processed(encoder, texts, pictures, padding=True, padding_side="right")
    examples = Examples(forget, Role.PLAIN, encoder)
    batch = Collator(encoder.tokenizer.pad_token_id)([examples[index] for index in (0, 3, 5)])
    assert set(joint) <= set(batch), (
        "what the processor gives reaches the model (upstream defect: pixels dropped)"
    )
    for name, value in joint.items():
        assert torch.equal(batch[name], value), name


def test_idk_labels_decode_to_the_refusal_not_to_the_true_answer(encoder, tables):
    """Upstream defect 1: a copy was made and the original formatted."""
    pairs = Pairs(*tables, (Role.IDK, Role.RETAIN), encoder)
    indices = list(pairs.sampler(0))
    batch = Collator(0)([pairs[index] for index in indices])
    idk = (batch["roles"] == Role.IDK).nonzero().flatten().tolist()
    assert len(idk) == len(tables[0])
    said = {encoder.tokenizer.decode(labels_of(batch, row)).strip() for row in idk}
    refusals = {refusal + encoder.tokenizer.eos_token for refusal in REFUSALS}
    answers = {row["answer"] + encoder.tokenizer.eos_token for row in tables[0]}
    assert said <= refusals and not said & answers and len(said) > 1


def test_the_idk_row_keeps_question_and_picture_of_its_forget_row(encoder, tables):
    pairs = Pairs(*tables, (Role.FORGET, Role.IDK), encoder)
    forget, idk = pairs[next(iter(pairs.sampler(0)))]
    assert torch.equal(forget.prompt["input_ids"], idk.prompt["input_ids"])
    assert torch.equal(forget.prompt["pixel_values"], idk.prompt["pixel_values"])
    assert forget.answer_ids.tolist() != idk.answer_ids.tolist()


def test_roles_stand_beside_their_rows(encoder, tables):
    forget, retain = tables
    pairs = Pairs(forget, retain, (Role.FORGET, Role.RETAIN), encoder)
    batch = Collator(0)([pairs[index] for index in list(pairs.sampler(1))[:4]])
    assert batch["roles"].tolist() == [Role.FORGET] * 4 + [Role.RETAIN] * 4
    forget_answers, retain_answers = set(forget["answer"][:]), set(retain["answer"][:])
    for row, role in enumerate(batch["roles"].tolist()):
        said = (
            encoder.tokenizer.decode(labels_of(batch, row)).replace(encoder.tokenizer.eos_token, "").strip()
        )
        assert said in (forget_answers if role == Role.FORGET else retain_answers)
        assert said not in (retain_answers if role == Role.FORGET else forget_answers)


TEMPLATES = {
    # LLaVA-1.5 as published: a space behind the answer, no end of turn.
    "llava-1.5": (
        "{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content if c.type == 'image' %}<image>\n"
        "{% endfor %}{% for c in m.content if c.type == 'text' %}{{ c.text }} {% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    # An end of turn of its own, and text behind it.
    "end-of-turn": (
        "{% for m in messages %}<<{{ m.role }}>>{% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}</s>\n\n{% endfor %}"
        "{% if add_generation_prompt %}<<assistant>>{% endif %}"
    ),
    # The tokenizer's BOS written by the template: it must not come twice.
    "bos": (
        "<s>{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    ),
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_answers_end_once_under_any_template(checkpoints, tables, template):
    processor = load_processor(str(checkpoints["llava"]))
    processor.chat_template = TEMPLATES[template]
    encoder = Encoder(processor)
    row = tables[0][0]
    answer = encoder.encode_answer(row)
    ids = torch.cat([encoder.encode_prompt(row)["input_ids"][0], answer])
    tokenizer = encoder.tokenizer
    assert tokenizer.decode(answer).strip() == row["answer"] + "</s>"
    assert answer.tolist().count(tokenizer.eos_token_id) == 1 and answer[-1] == tokenizer.eos_token_id
    assert ids.tolist().count(tokenizer.bos_token_id) == (template == "bos")
    joint = processed(encoder, [whole_text(encoder, row)], [[decode_image(row["image"], "row")]])
    assert torch.equal(ids, joint["input_ids"][0])


def test_an_answer_that_merges_with_its_prompt_is_tokenised_apart_with_one_warning(
    checkpoints, tables, caplog
):
    """What is trained is what generation sees: the prompt's own tokens, then the answer."""
    processor = load_processor(str(checkpoints["llava"]))
    processor.chat_template = TEMPLATES["bos"].replace("assistant:{%", "assistant: {%")
    encoder = Encoder(processor)
    for row in tables[0]:
        answer = encoder.encode_answer(row)
        assert encoder.tokenizer.decode(answer) == row["answer"] + "</s>"
    assert len([record for record in caplog.records if "merge" in record.message]) == 1


def test_an_answer_begins_as_it_does_in_the_joint_text(checkpoints, tables):
    """A SentencePiece-like tokenizer puts a space before whatever it is given: apart, the answer gets two."""
    from tokenizers import pre_tokenizers

    processor = load_processor(str(checkpoints["llava"]))
    processor.chat_template = TEMPLATES["end-of-turn"]
    core = processor.tokenizer.backend_tokenizer
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    encoder = Encoder(processor)
    row = tables[0][0]
    joint = encoder.tokenizer(whole_text(encoder, row), add_special_tokens=False)["input_ids"]
    apart = encoder.tokenizer(row["answer"] + "</s>", add_special_tokens=False)["input_ids"]
    answer = encoder.encode_answer(row).tolist()
    assert joint[-len(answer) :] == answer and answer != apart


def test_worker_processes_give_the_same_batches(make_trainer):
    batches = []
    for flags in ((), ("--dataloader_num_workers", "2")):
        trainer = make_trainer("idk", "llava", "--per_device_train_batch_size", "2", *flags)
        batches.append(list(trainer.get_train_dataloader()))
    assert len(batches[0]) == len(batches[1]) == 3
    for first, second in zip(*batches):
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_retain_rows_hold_no_forget_identity(data_dir):
    rows = load_rows(str(data_dir), "pairs", "forget3")
    assert not set(rows.forget["identity"]) & set(rows.retain["identity"])
    gold = load_rows(str(data_dir), "retain", "forget3")
    assert gold.train["row_id"][:] == rows.retain["row_id"][:] and gold.forget is None


def test_the_memory_of_prompts_changes_no_batch(checkpoints, tables):
    processor = load_processor(str(checkpoints["llava"]))
    batches = []
    for room in (0, 0.2, 256):
        encoder = Encoder(processor, cache_mb=room)
        pairs = Pairs(*tables, (Role.FORGET, Role.RETAIN), encoder)
        for _ in range(2):
            batch = Collator(0)([pairs[index] for index in pairs.sampler(0)])
        batches.append(batch)
        assert encoder._held <= room * 2**20
    for batch in batches[1:]:
        assert all(torch.equal(batch[name], batches[0][name]) for name in batches[0])


class TestEpochSampler:
    def test_an_epoch_visits_every_forget_row_once(self):
        sampler = EpochSampler(7, 30, 20, seed=3)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            assert sorted(index // 30 % 7 for index in sampler) == list(range(7))

    def test_retain_rows_are_used_equally_often(self):
        sampler = EpochSampler(7, 5, 1, seed=0)
        used = Counter()
        for epoch in range(10):
            sampler.set_epoch(epoch)
            used.update(index % 5 for index in sampler)
        assert set(used.values()) == {14}

    def test_it_depends_on_seed_and_epoch_and_nothing_else(self):
        first, second = EpochSampler(9, 20, 20, seed=5), EpochSampler(9, 20, 20, seed=5)
        first.set_epoch(0)
        list(first)
        for sampler in (first, second):
            sampler.set_epoch(4)
        torch.manual_seed(99)
        assert list(first) == list(second) == list(second)
        third = EpochSampler(9, 20, 20, seed=6)
        third.set_epoch(4)
        assert list(third) != list(first)
        second.set_epoch(5)
        assert list(second) != list(first)


def test_an_unreadable_picture_is_named(tables):
    broken = tables[0].select([0, 1]).to_list()
    broken[1]["image"]["bytes"] = broken[1]["image"]["bytes"][:60]
    table = type(tables[0]).from_list(broken)
    with pytest.raises(RememError, match=r"split 'forget1', row 1 .*ada_birch.*image"):
        check_pictures([table])
    check_pictures([tables[0]])


def test_a_pair_has_as_many_retain_rows_as_asked_for(encoder, tables):
    """All of them used equally often, none twice in a pair while there are enough."""
    pairs = Pairs(*tables, (Role.FORGET, Role.RETAIN), encoder, each=3)
    used = Counter()
    sampler = pairs.sampler(seed=0)
    for epoch in range(len(tables[1])):
        sampler.set_epoch(epoch)
        for index in sampler:
            plan = pairs.plan(index)
            assert [role for role, _, _ in plan] == [Role.FORGET, *[Role.RETAIN] * 3]
            used.update(row for role, row, _ in plan if role == Role.RETAIN)
    assert len(set(used.values())) == 1 and len(used) == len(tables[1])
    assert [example.role for example in pairs[next(iter(sampler))]] == [Role.FORGET, *[Role.RETAIN] * 3]


def test_epochs_take_turns_if_asked(encoder, tables):
    turns = ((Role.FORGET,), (Role.RETAIN,))
    pairs = Pairs(*tables, (Role.FORGET, Role.RETAIN), encoder, turns=turns)
    sampler = pairs.sampler(seed=0)
    for epoch in range(4):
        sampler.set_epoch(epoch)
        plans = [pairs.plan(index) for index in sampler]
        assert {role for plan in plans for role, _, _ in plan} == set(turns[epoch % 2])
        if epoch % 2 == 0:
            assert sorted(row for plan in plans for _, row, _ in plan) == list(range(len(tables[0])))
