"""Every row that cannot be encoded is named before weights are loaded, wherever it stands in the table."""

import io
import json

import pytest
from PIL import Image
from support.rows import people_splits, write_parquet

from remem_tasks.benchmarks.remem.check import check
from remem_tasks.checkpoints import load_processor
from remem_tasks.errors import RememError
from unlearning.arguments import parse
from unlearning.data import Encoder, load_rows
from unlearning.encoding import check_encoding, limits_of, special_texts
from unlearning.record import mark_failed
from unlearning.run import prepare
from unlearning.weights import check_output_dir

LAST = 35  # of `finetune`: the retain rows of somebody else


def changed(folder, **cells):
    """A data set whose last training row has other cells."""
    splits = people_splits()
    splits["finetune"][LAST] = {**splits["finetune"][LAST], **cells}
    write_parquet(folder, splits)
    return str(folder)


@pytest.fixture
def prepared(checkpoints, tmp_path, monkeypatch):
    """(data, *flags) → everything that is checked before weights are loaded; loading them is a failure."""

    def no_weights(*args, **options):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("unlearning.weights.load_model", no_weights)

    def call(data, *flags, arch="llava"):
        argv = [
            "--method",
            "grad_diff",
            "--no_gate",
            "true",
            "--data",
            data,
            "--disable_tqdm",
            "true",
            *flags,
        ]
        argv += ["--model_name_or_path", str(checkpoints[arch]), "--output_dir", str(tmp_path / "run")]
        return prepare(*parse(argv))

    return call


TEXTS = {
    "a picture's placeholder in the question": {"question": "What is in <image> of Finn Gale?"},
    "an end token in the answer": {"answer": "The pet of Finn Gale is a stoat.</s> Really."},
}


@pytest.mark.parametrize("cells", TEXTS.values(), ids=TEXTS)
def test_special_tokens_as_text_are_refused_for_every_row(prepared, tmp_path, cells):
    source = changed(tmp_path / "data", **cells)
    kinds = check(source, pictures=False).faults
    assert any("which chat templates take for a token of their own" in kind for kind in kinds)
    with pytest.raises(RememError, match=r"a token of their own: split 'finetune', row 35"):
        prepared(source)
    with pytest.raises(RememError, match=r"split 'finetune', row 35 .* a special token of this checkpoint"):
        prepared(source, "--faults", "allow")  # the row cannot be taught whole by this checkpoint


def test_a_checkpoints_own_special_tokens_are_known(checkpoints):
    known = special_texts(load_processor(str(checkpoints["qwen2_5_vl"])))
    assert {"<|im_end|>", "<|image_pad|>"} <= set(known)
    assert all(text.strip() for text in known)


def test_other_answers_are_looked_at_too(checkpoints, data_dir):
    processor = load_processor(str(checkpoints["llava"]))
    rows = load_rows(str(data_dir), "pairs", "forget1")
    with pytest.raises(RememError, match="row 5 .*: other answer holds '</s>'"):
        check_encoding(Encoder(processor), rows.tables, answers={"forget1:5": ["a", "b</s>"]})


@pytest.mark.parametrize("arch", ["llava", "qwen2_5_vl"])
def test_a_row_longer_than_the_context_is_named_with_its_length(checkpoints, data_dir, arch):
    processor = load_processor(str(checkpoints[arch]))
    (table,) = (load_rows(str(data_dir), "finetune", "forget1").train,)
    encoder = Encoder(processor)
    row = table[LAST]
    length = encoder.encode_prompt(row)["input_ids"].shape[1] + len(encoder.encode_answer(row))
    check_encoding(encoder, [table.select([LAST])], length)
    with pytest.raises(RememError, match=f"row 35 .* are {length} tokens, .* context of {length - 1}"):
        check_encoding(encoder, [table.select([LAST])], length - 1)


def test_a_long_answer_in_the_last_row_is_refused(prepared, checkpoints, tmp_path):
    _, context = limits_of(str(checkpoints["llava"]))
    answer = " ".join(["The pet of Finn Gale is a stoat."] * context)
    source = changed(tmp_path / "data", answer=answer)
    with pytest.raises(RememError, match=r"split 'finetune', row 35 .* more than the model's context"):
        prepared(source)


def test_one_picture_that_the_processor_refuses_is_named(prepared, tmp_path):
    """Qwen's refuses a picture 200 times as wide as it is high; it stands in the last row alone."""
    buffer = io.BytesIO()
    Image.new("RGB", (3000, 2)).save(buffer, "PNG")
    path = people_splits()["finetune"][LAST]["image_path"]
    source = changed(tmp_path / "data", image={"bytes": buffer.getvalue(), "path": path})
    with pytest.raises(RememError, match=r"split 'finetune', row 35 .*ratio"):
        prepared(source, arch="qwen2_5_vl")


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("os.access", lambda *args: False)
    with pytest.raises(RememError, match="cannot be written to"):
        check_output_dir(tmp_path / "run", False, False)


def test_a_record_is_marked_in_place_where_nothing_can_be_written(tmp_path):
    path = tmp_path / "run.json"
    before = json.dumps({"status": "running", "steps": 1}, indent=2)
    path.write_text(before)
    mark_failed(str(tmp_path))
    assert json.loads(path.read_text()) == {"status": "failed", "steps": 1}
    assert len(path.read_text()) == len(before)
    mark_failed(str(tmp_path / "none"))
