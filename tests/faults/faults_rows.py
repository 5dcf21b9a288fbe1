"""Rows, their cells and pictures, as scoring, training and `data check` meet them."""

from __future__ import annotations

import io
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
from frame import End, Fault, World
from PIL import Image, PngImagePlugin

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
        listed = " ".join(line for line in end.out.splitlines() if " x " in line)[:700]
        return End(
            end.status, end.out, f"{end.err.strip()} {listed}" if end.status else end.err, end.status, 0
        )
    argv = ["--method", "sft" if command == "sft" else "grad_diff", "--model_name_or_path", world.sound]
    argv += [] if command == "sft" else ["--no_gate"]
    return world.train(*argv, "--data", data, "--output_dir", world.folder / "out")


def cell(name: str, change, says: str = "row 3", commands=("check",), **more) -> list[Fault]:
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
        for fault in cell(
            f"'{column_name}' is {told}",
            put(column_name, value),
            column_name.replace("_", "."),
            ("score", "check"),
        )
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
    # Pictures
    *cell("no picture", put("image", None), "image"),
    *cell("no bytes and no path", picture(None, None), "image"),
    *cell("bytes that are empty", picture(b"", None), "image"),
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
    *table(
        "attributes that are all null", column("attribute", lambda n: pa.nulls(n)), "attribute", ("check",)
    ),
]
