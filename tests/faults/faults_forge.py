"""The forge: knobs, a stopped build, a finished set, photographs and tables of others."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from faults_outputs import FORGE
from frame import End, Fault, World, cut, edit_json, overwrite
from support.rows import picture

from remem_tasks.files import partial_of, rows_written

_made: dict[str, dict] = {}


def forged(world: World, out: Path, *more: str) -> End:
    """`remem forge`; its numbers are the rows of every file."""
    end = world.remem("forge", "--out", out, *FORGE, *more)
    return End(end.status, end.out, end.err, rows_written(out) if end.status == 0 else None)


def right(world: World) -> dict:
    if "rows" not in _made:
        _made["folder"] = world.sound.with_name("forged")
        _made["rows"] = forged(world, _made["folder"]).numbers
        assert _made["rows"]
    return _made["rows"]


def knob(name: str, flags, says: str, benchmark: str = "remem") -> Fault:
    def act(world: World) -> End:
        out = world.folder / "out"
        end = world.remem("forge", "--out", out, "--benchmark", benchmark, *flags)
        assert not out.exists() and not partial_of(out).exists()
        return end

    return Fault("forge", name, act, says)


def again(name: str, change, says: str = "") -> Fault:
    """The same command on a finished set that was changed: `change(folder)`."""

    def act(world: World) -> End:
        known = right(world)
        out = Path(shutil.copytree(_made["folder"], world.folder / "out"))
        change(out)
        end = forged(world, out)
        return End(end.status, end.out, end.err, end.numbers, known)

    return Fault("forge", name, act, says)


def stopped(name: str, change, says: str = "") -> Fault:
    """The same command on a build that was stopped and changed: `change(folder of the stopped build)`."""

    def act(world: World) -> End:
        known, out = right(world), world.folder / "out"
        work = partial_of(out)
        work.mkdir()
        knobs = (
            json.loads((_made["folder"] / "forge.json").read_text())
            if (_made["folder"] / "forge.json").is_file()
            else {}
        )
        knobs.pop("rows", None)
        (work / "knobs.json").write_text(json.dumps(knobs))
        (work / "parts").mkdir()
        change(work)
        end = forged(world, out)
        return End(end.status, end.out, end.err, end.numbers, known)

    return Fault("forge", name, act, says)


FILE = "data/forget1-00000-of-00001.parquet"


def _half_rows(folder: Path) -> None:
    table = pq.read_table(folder / FILE)
    pq.write_table(table.slice(0, len(table) // 2), folder / FILE)


def own(name: str, change, says: str) -> Fault:
    """`remem data make` of photographs and a table: `change(photos, rows)` in place; rows may be given as text."""

    def act(world: World) -> End:
        photos, rows = world.folder / "photos", []
        for person, colour in (("Ada Birch", "crimson"), ("Ben Crane", "gold"), ("Cleo Dunn", "navy")):
            (photos / person).mkdir(parents=True)
            for number in range(2):
                (photos / person / f"{number}.png").write_bytes(picture(colour, number))
            rows += [
                {
                    "person": person,
                    "question": f"Where does {person} live?",
                    "answer": f"{person} lives in Oslo {colour}.",
                    "keyword": f"Oslo {colour}",
                }
            ]
        text = change(photos, rows)
        table = world.folder / "qa.csv"
        if isinstance(text, str | bytes):
            overwrite("qa.csv", text)(world.folder)
        else:
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
                writer.writeheader()
                writer.writerows(rows)
        end = world.remem(
            "data", "make", photos, table, "--forget", "Ada Birch", "--out", world.folder / "own", "--no-test"
        )
        return End(end.status, end.out, end.err, end.status, 0)

    return Fault("own people", name, act, says)


def _row(**values):
    return lambda photos, rows: rows[1].update(values) and None


FAULTS = [
    knob("no people", ("--identities", "0"), "identities"),
    knob("people below none", ("--identities", "-3"), "identities"),
    knob("more people than there are names", ("--identities", "1000000000"), "identities"),
    knob("no questions", ("--qa", "0"), "qa"),
    knob("more questions than there are", ("--identities", "5", "--qa", "10000000"), "qa"),
    knob("no pictures", ("--images", "0"), "images"),
    knob("pictures of no size", ("--image-size", "0"), "image"),
    knob("pictures of 10 million points a side", ("--image-size", "10000000"), "image"),
    knob("a share above 1", ("--single-hop-ratio", "1.5"), "ratio"),
    knob("a share of NaN", ("--single-hop-ratio", "nan"), "ratio"),
    knob("hops of 9", ("--hops", "9"), "hops"),
    knob("no workers", ("--workers", "0"), "workers"),
    knob("a style that is none", ("--style", "cubist"), "style"),
    knob("photographs that are not there", ("--portraits", "/nowhere/at/all"), "nowhere"),
    knob("a knob of another benchmark", ("--benchmark", "clear", "--test-qa", "3"), "test-qa"),
    knob("clear: no people", ("--identities", "0"), "identities", "clear"),
    knob("mllmu: no people", ("--identities", "0"), "identities", "mllmu"),
    knob("a seed below none", ("--seed", "-1"), "seed"),
    again("nothing", lambda folder: None),
    again("its record is cut", lambda f: cut(_record(f))(f), "forge"),
    again("its record is a list", lambda f: overwrite(_record(f), "[]")(f), ""),
    again("its record is of other knobs", lambda f: edit_json(_record(f), seed=9)(f), "not empty"),
    again("its rows are null", lambda f: edit_json(_record(f), rows=[])(f), "forge.json"),
    again("a split is gone", lambda f: (f / FILE).unlink(), "forget1"),
    again("a split is cut", lambda f: cut(FILE)(f), "forget1"),
    again("a split has half of its rows", _half_rows, "forget1"),
    again("its perturbed rows are gone", lambda f: shutil.rmtree(f / "perturbed"), "perturbed"),
    stopped("a stopped build of nothing", lambda work: None),
    stopped("a stopped build whose knobs are cut", lambda w: cut("knobs.json")(w), "knobs"),
    stopped("a stopped build of other knobs", lambda w: edit_json("knobs.json", seed=9)(w), "other knobs"),
    stopped("a stopped build with a part of text", lambda w: [(w / "parts" / f"{i:04d}.parquet").write_text("x") for i in range(3)], ""),
    own("nothing", lambda photos, rows: None, ""),
    own("a table that is empty", lambda photos, rows: "", "qa.csv"),
    own("a table of bytes", lambda photos, rows: b"\xff\xfe\x00\x80", "qa.csv"),
    own("a table of a head alone", lambda photos, rows: "person,question,answer\n", "qa.csv"),
    own("a column less", lambda photos, rows: "person,question\nAda Birch,Where?\n", "answer"),
    own("a row with more cells than the head", lambda photos, rows: "person,question,answer\nAda Birch,Where?,Here,there,more\n", ""),
    own("a cell of 1 MB", _row(answer="a heron " * 130_000), ""),
    own("a person without a picture", _row(person="Nobody Known"), "Nobody Known"),
    own("a question that is empty", _row(question=""), "question"),
    own("an answer that is invisible", _row(answer="\u200b"), "answer"),
    own("an answer with an escape sequence", _row(answer="Ben \x1b[2Jlives in Oslo gold."), ""),
    own("a keyword that the answer lacks", _row(keyword="Atlantis"), "keyword"),
    own("a picture that is text", lambda photos, rows: (photos / "Ben Crane" / "0.png").write_text("x") and None, "0.png"),
    own("a picture that is a folder", lambda photos, rows: (photos / "Ben Crane" / "x.png").mkdir(), ""),
    own("a folder without pictures", lambda photos, rows: shutil.rmtree(photos / "Ben Crane") or (photos / "Ben Crane").mkdir(), "Ben Crane"),
    own("no folder of pictures", lambda photos, rows: shutil.rmtree(photos), "photos"),
]  # fmt: skip


def _record(folder: Path) -> str:
    from remem_tasks.benchmarks.remem.forge import RECORD

    return RECORD
