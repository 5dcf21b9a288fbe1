"""Whole answers token by token, in a batch with others, against one naive forward of each."""

import pytest
import torch
from support.chats import chats
from test_decoder import SHAPES, distributions

from remem_tasks.engine.whitebox import answer
from remem_tasks.errors import RememError
from remem_tasks.whitebox import WhiteBoxRequest, WhiteBoxResult, WholeAnswer

ANSWERS = [("The city is Oslo.", "The city is Rome, as she says.", "No."), ("Oslo",), ()]


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_every_number_is_that_of_a_naive_forward(shape_of, shape):
    _, _, decoder = shape_of(shape)
    rows = chats(3)
    asked = [
        WhiteBoxRequest(f"r:{row}", f"row {row}", answers=("Yes.",) * (row == 0), wholes=texts)
        for row, texts in enumerate(ANSWERS)
    ]
    found = answer(decoder, decoder.prefill(rows), rows, [*asked[:2], None], [0, 0, 0])
    assert found[2] == (None, None) and len(found[0][1].answers) == 1 and not found[0][1].tokens
    for row, (_, results) in zip(rows, found[:2]):
        results.check(asked[rows.index(row)])
        assert WhiteBoxResult.from_text(results.to_text(), "row") == results
        for whole in results.wholes:
            of_row = distributions(decoder, row, whole.tokens)
            behind = of_row[:, ~decoder.banned].double()
            means = (behind.exp() * behind).sum(-1)
            sds = ((behind.exp() * behind**2).sum(-1) - means**2).sqrt()
            said = of_row[range(len(whole.tokens)), whole.tokens]
            assert whole.predicted == of_row.argmax(-1).tolist()
            for ours, naive in ((whole.logprobs, said), (whole.means, means), (whole.sds, sds)):
                assert torch.tensor(ours).double().sub(naive.double()).abs().max() < 1e-4
    texts = [decoder.prompts.text(whole.tokens) for whole in found[0][1].wholes]
    assert [text.strip() for text in texts] == list(ANSWERS[0])


def test_findings_that_cannot_be_are_refused():
    asked = WhiteBoxRequest("r", "row 3", wholes=("x",))
    good = WholeAnswer([1, 2], [1, 3], [-1.0, -2.0], [-1.0, -1.0], [0.5, 0.5])
    WhiteBoxResult(wholes=[good]).check(asked)
    for wrong, told in (
        ([], "row 3: the engine found 0 wholes, 1 were asked for"),
        ([WholeAnswer([1, 2], [1], [-1.0, -2.0], [-1.0, -1.0], [0.5, 0.5])], "numbers of one answer"),
        ([WholeAnswer([], [], [], [], [])], "numbers of one answer"),
        ([WholeAnswer([1], [-2], [-1.0], [-1.0], [0.5])], "a token that is no id"),
        ([WholeAnswer([1], [2], ["x"], [-1.0], [0.5])], "not a number"),
    ):
        with pytest.raises(RememError, match=told):
            WhiteBoxResult(wholes=wrong).check(asked)
    with pytest.raises(RememError, match="row 3: the engine's findings cannot be read"):
        WhiteBoxResult.from_text(
            '{"continuations": [], "secrets": [], "answers": [], "tokens": [], "moments": []}', "row 3"
        )
