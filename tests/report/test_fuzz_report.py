"""Results, samples and boards of others: whatever is in them, they are read or refused in one line."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.made import model, row, write_run

from remem_tasks.binding import KEY, samples_of
from remem_tasks.errors import RememError
from remem_tasks.report.leaderboard import append, entries_of, read_board
from remem_tasks.report.runs import read_run
from remem_tasks.report.summary import report_of

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 70), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.just([None]), st.just({"a": 1}), st.just(10**400), st.just("\x1b[31m"), st.just([[1]]), st.just(-1),
)  # fmt: skip


def places(value, path=()):
    """The paths of everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def spoilt(value, draw):
    """A copy in which one thing is another, or gone."""
    value = copy.deepcopy(value)
    path = draw(st.sampled_from([path for path in places(value) if path]))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if draw(st.booleans()):
        inner[path[-1]] = draw(VALUES)
    else:
        del inner[path[-1]]
    return value


def one_line(action):
    try:
        action()
    except RememError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    file = write_run(tmp_path_factory.mktemp("fuzz"), {"forget1": [row(0, em=1.0), row(1)]})
    raw = json.loads(file.read_text())
    del raw[KEY]  # as of an earlier version, so that nothing but the reading itself stands guard
    lines = [json.loads(line) for line in samples_of(file, "remem_forget1").read_text().splitlines()]
    return raw, lines


@QUICK
@given(st.data())
def test_results_and_samples(whole, tmp_path, data):
    raw, lines = whole
    if data.draw(st.booleans()):
        raw = spoilt(raw, data.draw)
    else:
        lines = spoilt(lines, data.draw)
    file = tmp_path / "m" / "20260101_000000_results.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(raw))
    samples_of(file, "remem_forget1").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one_line(lambda: read_run(file, "a"))


@QUICK
@given(st.data())
def test_boards(board, tmp_path, data):
    file = tmp_path / "b.jsonl"
    file.write_text(json.dumps(spoilt(board, data.draw)) + "\n")
    one_line(lambda: read_board(file))


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    for name, em in (("start", 1.0), ("npo", 0.0), ("gold", 0.0)):
        model(folder, name, [em] * 20, [1.0] * 20)
    (entry,) = entries_of(report_of([str(folder)], "gold", "start", draws=20))
    append(folder / "b.jsonl", [entry])
    return entry
