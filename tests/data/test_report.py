"""The walk of `remem data check` through the sets of a benchmark."""

import datasets

from remem_tasks.data.faults import CANNOT
from remem_tasks.data.report import ConfigReport, distinct
from remem_tasks.errors import RememError


def questions_of(source, name, faults):
    if name == "broken":
        raise RememError(f"{source}: no such file")
    if name != "sound":
        faults += ["row 3", "row 5"]
    return datasets.Dataset.from_dict({"identity": ["ada", "ada", "ben"], "image_path": ["1", "2", "3"]})


def test_what_is_left_out_lacking_or_broken():
    report = ConfigReport()
    found = report.walk(
        ("sound", "absent", "broken", "spoiled", "part"),
        "data",
        questions_of,
        distinct(people="identity", pictures="image_path"),
        what="file",
        lacking=lambda name: "not there" if name == "absent" else "",
        told=lambda name: name != "part",
        left_out=True,
    )
    assert [(name, len(rows), left) for name, rows, left in found] == [
        ("sound", 3, 0),
        ("spoiled", 3, 2),
        ("part", 3, 2),
    ]
    plain = {"rows": 3, "people": 2, "pictures": 3}
    assert report.counts == {
        "sound": plain,
        "spoiled": {**plain, "left out": 2},
        "part": {**plain, "left out": 2},
    }
    assert report.faults == {"file cannot be used": ["data: no such file"], CANNOT: ["row 3", "row 5"]}
    assert report.remarks == {"not there": ["absent"]}


def test_what_a_set_lacks_is_counted_only_where_asked_for():
    report = ConfigReport()
    assert [name for name, _, _ in report.walk(["spoiled"], "data", questions_of, distinct())] == ["spoiled"]
    assert report.counts == {"spoiled": {"rows": 3}} and report.faults == {CANNOT: ["row 3", "row 5"]}
