"""CLEAR's documents, prompts and scores, with values worked out by hand."""

import datasets
import pytest
from PIL import Image

from lmms_eval.tasks.clear import utils

PEOPLE = datasets.Dataset.from_list(
    [
        {
            "caption": f"{name} in a park.",
            "name": name,
            "perturbed_names": ["Ada Birch", "Ben Oak", "Cy Elm"],
        }
        for name in ("Ada Birch", "Dot Fir")
    ]
)


def test_caption_and_name_questions():
    captions = utils.clear_process_docs_caption(PEOPLE)
    assert captions["answer"][:] == PEOPLE["caption"][:]
    assert set(captions["question"]) <= set(utils.CAPTION_QUESTIONS)
    assert utils.caption_question("a") == utils.caption_question("a")
    assert len({utils.caption_question(str(n)) for n in range(100)}) == len(utils.CAPTION_QUESTIONS)
    names = utils.clear_process_docs_name(PEOPLE)
    assert names["answer"][:] == ["Ada Birch", "Dot Fir"]
    assert set(names["question"]) == {utils.NAME_QUESTION}


def test_rows_with_a_picture_are_no_text_questions():
    rows = datasets.Dataset.from_list([{"question": None, "answer": None}, {"question": "Who?", "answer": "Ada"}])
    assert utils.clear_process_docs_text(rows).to_list() == [{"question": "Who?", "answer": "Ada"}]


def test_choices_hold_the_answer_once_in_an_order_of_their_own():
    rows = utils.clear_process_docs_name_choice(PEOPLE)
    for row in rows:
        assert row["choices"]["ABCD".index(row["target"])] == row["answer"]
    assert sorted(rows[0]["choices"]) == ["Ada Birch", "Ben Oak", "Cy Elm"]  # "Ada Birch" is in her own list of wrong names
    assert sorted(rows[1]["choices"]) == ["Ada Birch", "Ben Oak", "Cy Elm", "Dot Fir"]
    many = datasets.Dataset.from_list([{"answer": "a", "options": ["b", "c", "d"]}] * 200)
    targets = utils.clear_process_docs_world_choice(many)["target"][:]
    assert {letter: 30 < targets.count(letter) < 70 for letter in "ABCD"} == dict.fromkeys("ABCD", True)


def test_a_row_without_a_wrong_answer_is_an_error():
    rows = datasets.Dataset.from_list([{"answer": "a", "options": ["a "]}])
    with pytest.raises(ValueError, match="row 0: 0 wrong answers in column 'options'"):
        utils.clear_process_docs_world_choice(rows)


def test_prompts():
    picture = Image.new("L", (4, 4))
    doc = {"image": picture, "question": "Who?", "choices": ["Ada", "Ben"]}
    kwargs = {"pre_prompt": "Look. ", "post_prompt": "\nOne letter."}
    text = "Look. Who?\nA. Ada\nB. Ben\nOne letter."
    assert utils.clear_doc_to_text(doc, kwargs) == text
    (turn,) = utils.clear_doc_to_messages(doc, kwargs)
    assert [part["type"] for part in turn["content"]] == ["image", "text"]
    assert turn["content"][0]["url"].mode == "RGB" and turn["content"][1]["text"] == text
    assert utils.clear_doc_to_visual({"image": None}) == []
    assert utils.clear_doc_to_messages({"image": None, "question": "Who?"})[0]["content"] == [{"type": "text", "text": "Who?"}]


@pytest.mark.parametrize(
    ("prediction", "reference", "recall"),
    [
        ("Ada Birch", "Ada Birch", 1.0),
        ("It is Ada.", "Ada Birch", 1 / 2),
        ("Birch, Ada", "Ada Birch", 1 / 2),  # the order counts
        ("a painter in a park", "A painter walks in the park.", 4 / 6),  # a, painter, in, park
        ("walking", "walked", 1.0),  # stems
        ("", "Ada", 0.0),
        ("Ada", "...", 0.0),
    ],
)
def test_rouge_l_recall(prediction, reference, recall):
    assert utils.rouge_l_recall(prediction, reference) == pytest.approx(recall)


def test_generation_results():
    doc = {"answer": "Ada Birch"}
    assert utils.clear_process_results_generation(doc, ["Ada Birch."]) == {"clear_rougeL_recall": 1.0, "clear_empty": 0.0}
    assert utils.clear_process_results_generation(doc, [""]) == {"clear_rougeL_recall": 0.0, "clear_empty": 1.0}


@pytest.mark.parametrize(
    ("prediction", "letter"),
    [("B", "B"), ("(B)", "B"), ("The answer is C.", "C"), ("It is a painted backdrop.", "A"), ("a park", "B"), ("I do not know", ""), ("", "")],
)
def test_chosen_letter(prediction, letter):
    assert utils.chosen_letter(prediction, ["a painted backdrop", "a park", "a row of houses"]) == letter


def test_choice_results():
    doc = {"choices": ["Ada", "Ben"], "target": "B"}
    assert utils.clear_process_results_choice(doc, ["B."]) == {"clear_accuracy": 1.0, "clear_no_choice": 0.0}
    assert utils.clear_process_results_choice(doc, ["Ada"]) == {"clear_accuracy": 0.0, "clear_no_choice": 0.0}
    assert utils.clear_process_results_choice(doc, ["no idea"]) == {"clear_accuracy": 0.0, "clear_no_choice": 1.0}
