"""Rows, their cells and pictures, as scoring, training and `data check` meet them."""

from __future__ import annotations

import io
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
from frame import End, Fault, World, cut, overwrite, remove
from PIL import Image, PngImagePlugin
from support.rows import people_splits, write_parquet

FORGET = "data/forget1-00000-of-00001.parquet"
DEEP = "[" * 100_000


def damaged(world: World, change) -> str:
    """A copy of the data whose fourth forget row is changed, in every split that has it: `change(row)` in place."""

    def apply(splits: dict) -> None:
        question = splits["forget1"][3]["question"]
        for rows in splits.values():
            for row in rows:
                if row["question"] == question and row["image_path"] == splits["forget1"][3]["image_path"]:
                    change(row)

    return world.data(apply)


def commanded(world: World, data, command: str) -> End:
    if command == "score":
        return world.score(data=data)
    if command == "check":
        end = world.remem("data", "check", data)
        return End(end.status, end.out, end.err, end.status, 0)
    argv = ["--method", "sft" if command == "sft" else "grad_diff", "--model_name_or_path", world.sound]
    argv += [] if command == "sft" else ["--no_gate"]
    return world.train(*argv, "--data", data, "--output_dir", world.folder / "out")


def cell(name: str, change, says: str = "row 3", commands=("score", "check"), **more) -> list[Fault]:
    """A fault of one row under several commands."""
    return [
        Fault(
            "rows",
            f"{command}: {name}",
            lambda w, c=command: commanded(w, damaged(w, change), c),
            says,
            **more,
        )
        for command in commands
    ]


def put(column: str, value):
    return lambda row: row.update({column: value})


def table(name: str, change, says: str = "", commands=("score",), **more) -> list[Fault]:
    """A fault of the files of a data set: `change(folder)`."""

    def act(world: World, command: str) -> End:
        folder = world.data(lambda splits: None)
        change(folder)
        return commanded(world, folder, command)

    return [Fault("tables", f"{c}: {name}", lambda w, c=c: act(w, c), says, **more) for c in commands]


def rewritten(change):
    """The forget split's file with another Arrow table: `change(table)` gives it."""

    def apply(folder) -> None:
        pq.write_table(change(pq.read_table(folder / FORGET)), folder / FORGET)

    return apply


def column(name: str, values):
    """The split with other values in a column, of whatever type."""

    def change(whole: pa.Table) -> pa.Table:
        made = values(whole.num_rows) if callable(values) else values
        place = whole.column_names.index(name)
        return whole.replace_schema_metadata(None).set_column(place, name, made)

    return rewritten(change)


def picture(raw: bytes | None, path: str | None = "images/ada_birch/0003.png"):
    return put("image", {"bytes": raw, "path": path})


def png(width: int, height: int, body: bytes | None = None) -> bytes:
    """A PNG of one bit a pixel, whose header says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + (width + 7) // 8)
    if body is None:
        body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) + chunk(b"IDAT", body) + chunk(b"IEND", b"")  # fmt: skip


def sound_png(size=(56, 56), form: str = "PNG", **more) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, format=form, **more)
    return buffer.getvalue()


def with_text_chunk() -> bytes:
    """A PNG whose compressed text is 200 MB long."""
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "a" * 200_000_000, zip=True)
    return sound_png(pnginfo=info)


INVISIBLE = {
    "a zero-width space": "\u200b",
    "a filler": "\u3164",
    "a byte order mark": "\ufeff",
    "blanks": " \t\u00a0",
}
MEGA = "and a heron " * 90_000

FAULTS = [
    *table("nothing", lambda folder: None, commands=("score", "check")),
    # Texts
    *(
        fault
        for column_name in ("question", "answer", "cloze_prompt", "keywords")
        for told, value in {"null": None, "empty": "", **INVISIBLE}.items()
        for fault in cell(f"'{column_name}' is {told}", put(column_name, value), column_name)
    ),
    *cell("keywords that the answer lacks", put("keywords", "Atlantis"), "keyword"),
    *cell("keywords in a broken list", put("keywords", "['Oslo Bay'"), "keywords"),
    *cell("keywords in a list in a list", put("keywords", "[['Oslo Bay']]"), "keywords"),
    *cell("keywords with null", put("keywords", '["Oslo Bay", null]'), "keywords"),
    *cell("keywords that are an empty list", put("keywords", "[]"), "keywords"),
    *cell("keywords nested 100,000 deep", put("keywords", DEEP), "keywords"),
    *cell("keywords of 5,000 digits", put("keywords", "[" + "9" * 5000 + "]"), "keywords"),
    *cell("keywords that are a program", put("keywords", "[__import__('os').system('id')]"), "keywords"),
    *cell("a cloze prompt that holds the answer", lambda r: r.update(cloze_prompt=r["answer"]), "cloze"),
    *cell(
        "a cloze prompt that holds the keyword",
        lambda r: r.update(cloze_prompt=f"It is {r['keywords']}, is"),
        "cloze",
    ),
    *cell("a type of question that is none", put("question_type", "many"), "question_type"),
    *cell("a type of question that is null", put("question_type", None), "question_type"),
    *cell("a hop of 5,000 digits", put("question_type", "9" * 5000 + "-hop"), "question_type"),
    *cell("an attribute that is null", put("attribute", None), "attribute"),
    *cell("an image path that is null", put("image_path", None), "image_path"),
    *cell("an image path that is empty", put("image_path", ""), "image_path"),
    *cell("half of a character pair in the question", put("question", "\udcff"), "", commands=()),
    *cell(
        "a control sequence in the question",
        put("question", "\x1b]0;x\x07What is it?"),
        "",
        commands=("check",),
    ),
    *cell("an answer of 1 MB", put("answer", MEGA + "New Tarn is Oslo Bay."), "row 3"),
    *cell("a question of 1 MB", put("question", MEGA), "row 3", commands=("score",)),
    *cell("a cloze prompt of 1 MB", put("cloze_prompt", MEGA), "row 3", commands=("score",)),
    *cell(
        "keywords of 1 MB",
        lambda r: r.update(keywords=MEGA.strip(), answer=f"It is {MEGA}"),
        "row 3",
        commands=("score",),
    ),
    *cell(
        "100,000 keywords",
        lambda r: r.update(keywords=str([r["keywords"]] * 100_000)),
        "row 3",
        commands=("score",),
    ),
    *(
        fault
        for name, change, says in (
            ("'question' is empty", put("question", ""), "question"),
            ("'answer' is blank", put("answer", "\u200b"), "answer"),
            ("keywords that the answer lacks", put("keywords", "Atlantis"), "keyword"),
            ("an answer of 1 MB", put("answer", MEGA + "New Tarn is Oslo Bay."), "row"),
            ("a question of 1 MB", put("question", MEGA), "row"),
            ("a picture that is cut", lambda r: r["image"].update(bytes=r["image"]["bytes"][:60]), "image"),
            ("a picture of 900 million points", picture(png(30_000, 30_000, zlib.compress(b""))), "image"),
        )
        for fault in cell(name, change, says, commands=("sft", "train"))
    ),
    # Pictures
    *cell("no picture", put("image", None), "image"),
    *cell("no bytes and no path", picture(None, None), "image"),
    *cell("bytes that are empty", picture(b"", None), "image"),
    *cell("a path that is not there", picture(None, "nowhere.png"), "image"),
    *cell("a path to a device", picture(None, "/dev/zero"), "image"),
    *cell("bytes that are text", picture(b"no picture"), "image"),
    *cell("bytes that are a program", picture(b"\x80\x04cos\nsystem\n(S'id'\ntR."), "image"),
    *cell("a picture that is cut", lambda r: r["image"].update(bytes=r["image"]["bytes"][:60]), "image"),
    *cell(
        "a picture with a flipped byte",
        lambda r: r["image"].update(bytes=r["image"]["bytes"][:80] + b"\xff" + r["image"]["bytes"][81:]),
        "image",
    ),
    *cell("a picture of 900 million points", picture(png(30_000, 30_000, zlib.compress(b""))), "image"),
    *cell("a bomb: 900 million points in 110 kB", picture(png(30_000, 30_000)), "image"),
    *cell("a bomb in a text chunk", lambda r: picture(with_text_chunk())(r), "image", slow=True),
    *cell("a picture of 0 × 0", picture(png(0, 0)), "image"),
    *cell("a picture of 1 × 60,000", picture(png(1, 60_000)), "", commands=("check",)),
    *cell("an SVG", picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "image"),
    # Files and columns
    *table("the file is cut", lambda f: cut(FORGET)(f), "forget1"),
    *table("the file is empty", lambda f: overwrite(FORGET, "")(f), "forget1"),
    *table("the file is text", lambda f: overwrite(FORGET, "PAR1 not at all PAR1")(f), "forget1"),
    *table("the file lacks its last byte", lambda f: cut(FORGET, 0.99999)(f), "forget1"),
    *table("the file is gone", lambda f: remove(FORGET)(f), "forget1"),
    *table("the file is a folder", lambda f: (remove(FORGET)(f), (f / FORGET).mkdir()), "forget1"),
    *table("the card is bytes", lambda f: overwrite("README.md", b"---\n\xff\xfe\n---")(f), ""),
    *table("the card is no YAML", lambda f: overwrite("README.md", "---\nconfigs: [\n---\n")(f), "README"),
    *table("the card is a bomb of aliases", lambda f: overwrite("README.md", _aliases())(f), ""),
    *table("no rows", rewritten(lambda t: t.slice(0, 0)), "forget1"),
    *table("a column less", rewritten(lambda t: t.drop_columns(["answer"])), "answer"),
    *table("a column twice", rewritten(lambda t: t.append_column("answer", t["answer"])), "answer"),
    *table("pictures that are whole numbers", column("image", lambda n: pa.array(range(n))), "image"),
    *table("pictures that are booleans", column("image", lambda n: pa.array([True] * n)), "image"),
    *table("lists of two pictures", column("image", lambda n: pa.array([[b"a", b"b"]] * n)), "image"),
    *table("answers that are numbers with a part", column("answer", lambda n: pa.array([0.5] * n)), "answer"),
    *table("answers that are records", column("answer", lambda n: pa.array([{"a": 1}] * n)), "answer"),
    *table("answers that are dates", column("answer", lambda n: pa.array([0] * n, pa.date32())), "answer"),
    *table("answers that are bytes", column("answer", lambda n: pa.array([b"\xff"] * n)), "answer"),
    *table(
        "attributes that are all null",
        column("attribute", lambda n: pa.nulls(n)),
        "attribute",
        ("score", "check"),
    ),
    *table("texts whose bytes are no UTF-8", column("question", lambda n: _broken_text(n)), "question"),
]


def _broken_text(rows: int) -> pa.Array:
    """Bytes that are no UTF-8 in a column that says it is text."""
    return pa.array([b"\xff\xfe\x80"] * rows, pa.binary()).view(pa.string())


def _aliases() -> str:
    """YAML whose aliases unfold to 10**9 nodes."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _shuffled(world: World) -> End:
    """The same rows in another order: the same numbers, row by row."""
    splits = people_splits()
    splits["forget1"] = splits["forget1"][::-1]
    write_parquet(world.folder / "data", splits)
    end = world.score(data=world.folder / "data")
    means = {name: round(value, 6) for name, value in (end.numbers or {}).get("remem_forget1", {}).items()}
    right = {name: round(value, 6) for name, value in (end.right or {}).get("remem_forget1", {}).items()}
    return End(end.status, end.out, end.err, means, right)


FAULTS.append(Fault("rows", "score: rows in another order", _shuffled))
