"""Results and samples files that gate, report, board and diagnose read."""

from __future__ import annotations

import json
import math
import shutil

from frame import End, Fault, World, cut, edit_json, overwrite, remove
from support.made import row, write_run

from remem_tasks.binding import KEY, seal

RESULTS = "20260101_000000_results.json"
SAMPLES = "20260101_000000_samples_remem_forget1.jsonl"
ROWS = 20


def tasks(em: float = 1.0, exposure: float | None = None) -> dict[str, list[dict]]:
    exposure = em if exposure is None else exposure
    rank = 1 if exposure == 1 else 65
    return {
        "forget1": [row(i, em=em, exposure=exposure, rank=rank) for i in range(ROWS)],
        "retain": [row(i, "retain", em=1.0, exposure=1.0, rank=1, identity="ben_crane") for i in range(ROWS)],
    }


def run_of(world: World, change=None, name: str = "start", em: float = 1.0, sealed: bool = True):
    """The folder of results and samples of a made-up run, after `change(folder)`."""
    place = write_run(world.folder / name, tasks(em), f"models/{name}", sealed=sealed).parent
    if change:
        change(place)
    return place


def judged(world: World, place, command: str = "gate") -> End:
    """A command on the runs of the world, compared with what it says of sound ones."""
    if command == "gate":
        argv = ["gate", place]
    elif command == "report":
        argv = ["report", place, "--out", world.folder / "page", "--no-pictures"]
    elif command == "diagnose":
        argv = ["diagnose", place, "--out", world.folder / "diagnosis"]
    else:
        gold = run_of(world, name="gold", em=0.0)
        argv = ["leaderboard", "add", f"x={place}", "--start", f"gold={gold}", "--no-gate"]
        argv += ["--file", world.folder / "board.jsonl"]
    end = world.remem(*argv)
    return End(end.status, end.out, end.err, _shown(end.out, world) if not end.status else None)


def _shown(text: str, world: World) -> list[str]:
    """The lines of an output, without notes on digests and without paths, which may be wrapped anywhere."""
    lines = [line for line in text.replace("\n", " ").split("  ") if "digest" not in line]
    return [" ".join(line.split()).replace(str(world.folder), "") for line in lines]


def read(name: str, change, says: str = "", command: str = "gate", sealed: bool = False, **more) -> Fault:
    """A fault of one run's files; unsealed, so that nothing but the reading itself stands guard."""

    def act(world: World) -> End:
        place = run_of(world, sealed=sealed)
        right = judged(world, place, command).numbers
        (world.folder / "board.jsonl").unlink(missing_ok=True)
        change(place)
        end = judged(world, place, command)
        return End(end.status, end.out, end.err, end.numbers, right)

    return Fault("results", name, act, says, **more)


def edit_line(change, number: int = 3, file: str = SAMPLES):
    """Changes one sample; `change(sample)` in place, or gives the text of another line."""

    def apply(folder):
        lines = (folder / file).read_text().splitlines()
        sample = json.loads(lines[number])
        found = change(sample)
        lines[number] = found if isinstance(found, str) else json.dumps(sample)
        (folder / file).write_text("\n".join(lines) + "\n", errors="surrogatepass")

    return apply


def of_rows(**values):
    """Sets keys of the fourth sample's `remem_rows`; None removes."""

    def change(sample):
        for name, value in values.items():
            if value is None:
                sample["remem_rows"].pop(name)
            else:
                sample["remem_rows"][name] = value

    return edit_line(change)


def lines_of(change, file: str = SAMPLES):
    def apply(folder):
        lines = change((folder / file).read_text().splitlines())
        (folder / file).write_text("".join(line + "\n" for line in lines))

    return apply


def results(**changes):
    return edit_json(RESULTS, **changes)


def of_task(**changes):
    """Sets the forget task's scores in the results file; a name without its filter."""
    return edit_json(RESULTS, **{f"results__remem_forget1__{name},none": v for name, v in changes.items()})


def other_runs_samples(folder):
    """The forget samples of a run that forgot, under this run's name."""
    other = write_run(folder.parents[1] / "other", tasks(0.0), "models/start").parent
    shutil.copy(other / SAMPLES, folder / SAMPLES)


def all_zero(folder):
    """A metric set to 0 in the samples alone."""
    lines = [json.loads(line) for line in (folder / SAMPLES).read_text().splitlines()]
    for line in lines:
        line["remem_memo"] = 0.0
    (folder / SAMPLES).write_text("".join(json.dumps(line) + "\n" for line in lines))


def resealed(change):
    """As `change`, and the digests made anew over what is then there."""

    def apply(folder):
        change(folder)
        seal(folder / RESULTS)

    return apply


def fewer_rows(folder):
    """Two rows less in both files: a run of fewer rows than the set has, by its own count."""
    lines_of(lambda lines: lines[:-2])(folder)
    results(**{"n-samples__remem_forget1__effective": ROWS - 2})(folder)
    of_task(remem_rows=ROWS - 2)(folder)


DEEP = "[" * 100_000 + "]" * 100_000
LONG = "9" * 5000
LINE = f"{SAMPLES}', line 4"

FAULTS = [
    read("nothing", lambda folder: None),
    read("nothing, sealed", lambda folder: None, sealed=True),
    # The results file
    read("the results are cut", cut(RESULTS), RESULTS),
    read("the results are empty", overwrite(RESULTS, ""), RESULTS),
    read("the results are a list", overwrite(RESULTS, "[]"), RESULTS),
    read("the results are null", overwrite(RESULTS, "null"), RESULTS),
    read("the results are bytes", overwrite(RESULTS, b"\xff\xfe\x00\x80"), RESULTS),
    read("the results are nested deep", overwrite(RESULTS, DEEP), "nested too deep"),
    read(
        "a number of 5,000 digits in the results",
        overwrite(RESULTS, f'{{"results": {{"a": {LONG}}}}}'),
        "5000 digits",
    ),
    read("the results are gone", remove(RESULTS), "results"),
    read("results without results", results(results=None), "results"),
    read("results that are a list", results(results=[1]), "results"),
    read("no tasks", results(results={}), "no task"),
    read("a task's scores are null", results(results__remem_forget1=[]), "remem_forget1"),
    read("a configuration that is a list", results(configs=[]), "configs"),
    read("a task's configuration is a number", results(configs__remem_forget1=3), "configs"),
    read("no counts of rows", results(**{"n-samples": None})),
    read("rows counted as text", results(**{"n-samples__remem_forget1__effective": "20"}), "rows"),
    read("rows counted as NaN", results(**{"n-samples__remem_forget1__effective": math.nan}), "rows"),
    read("rows counted as infinite", results(**{"n-samples__remem_forget1__effective": math.inf}), "rows"),
    read("rows counted below none", results(**{"n-samples__remem_forget1__effective": -1}), "rows"),
    read("rows counted too few", results(**{"n-samples__remem_forget1__effective": 19}), "19"),
    *(
        read(f"a mean that is {value!r}"[:40], of_task(remem_em=value), "remem_em")
        for value in (math.nan, math.inf, -math.inf, 0.5, -0.1, 1e300)
    ),
    read("a mean that is a text", of_task(remem_em="1.0"), "em"),
    read("a mean that is null", of_task(remem_em=[]), "em"),
    read("rollouts of 0", results(configs__remem_forget1__metadata__suite__rollouts=0), "rollouts"),
    read(
        "rollouts that are text", results(configs__remem_forget1__metadata__suite__rollouts="64"), "rollouts"
    ),
    read("a suite that is a list", results(configs__remem_forget1__metadata__suite=[1]), "metadata"),
    read("metadata that is a text", results(configs__remem_forget1__metadata="x"), "metadata"),
    # Samples
    read("the samples are gone", remove(SAMPLES), SAMPLES),
    read("the samples are empty", overwrite(SAMPLES, ""), SAMPLES),
    read("the samples are cut", cut(SAMPLES), f"{SAMPLES}', line"),
    read("the samples are bytes", overwrite(SAMPLES, b"\xff\xfe\x00\x80"), SAMPLES),
    read("the samples are a folder", lambda f: (remove(SAMPLES)(f), (f / SAMPLES).mkdir()), SAMPLES),
    read("a line is cut", edit_line(lambda s: json.dumps(s)[:-20]), LINE),
    read("a line is empty", edit_line(lambda s: "  "), LINE),
    read("a line is null", edit_line(lambda s: "null"), LINE),
    read("a line is a list", edit_line(lambda s: "[]"), LINE),
    read("a line is nested deep", edit_line(lambda s: DEEP), LINE),
    read("a line holds 5,000 digits", edit_line(lambda s: f'{{"doc_id": {LONG}}}'), LINE),
    read("a line twice", lines_of(lambda lines: [*lines[:-1], lines[0]]), "second time"),
    read("all lines twice", lines_of(lambda lines: lines * 2), "second time"),
    read("a line less", lines_of(lambda lines: lines[:-1]), "19 rows"),
    read(
        "a line of the other set more", lines_of(lambda lines: [*lines, lines[0].replace(":0", ":99")]), "21"
    ),
    read("two rows less in both files", fewer_rows, command="report", counted="18|97|fewer"),
    read("the samples of another run", other_runs_samples, "differs"),
    read("a metric set to 0 in the samples", all_zero, "remem_memo"),
    read("lines in another order", lines_of(lambda lines: lines[::-1])),
    *(
        read(f"a score that is {told}", edit_line(lambda s, v=value: s.update(remem_em=v)), LINE)
        for told, value in {
            "null": None,
            "NaN": math.nan,
            "infinite": math.inf,
            "above 1": 1.5,
            "below 0": -0.5,
            "text": "1",
            "true": True,
            "a list": [1.0],
            "10**400": 10**400,
        }.items()
    ),
    read("a row without its score", edit_line(lambda s: s.pop("remem_em") and None), "em"),
    read("a row without its exposure", edit_line(lambda s: s.pop("remem_exposure") and None), "exposure"),
    read("a row without its rows", edit_line(lambda s: s.pop("remem_rows") and None), LINE),
    *(
        read(f"a rank of {value!r}"[:60], of_rows(guess_rank=[value]), LINE)
        for value in (0, -1, 66, 10**30, 1.5, "1", True, math.nan, [1])
    ),
    read("a rank that is null", of_rows(guess_rank=[None]), LINE),
    read("a list of ranks that is a number", of_rows(guess_rank=7), LINE),
    read("a list of ranks that is a text", of_rows(guess_rank="abc"), LINE),
    read("ranks of another number than secrets", of_rows(guess_rank=[1, 1, 1]), LINE),
    read("a rank that does not give the row's exposure", of_rows(guess_rank=[65]), "exposure"),
    *(
        read(f"bits that are {value!r}", of_rows(secret_bits=[value]), LINE)
        for value in (-3.0, math.nan, math.inf, "x")
    ),
    read("a reference rank out of range", of_rows(reference_rank=[9]), LINE),
    read("references that are text", of_rows(references=["3"]), LINE),
    read("a guess without its probability", of_rows(guesses=[[["x"]]]), LINE),
    read("a guess with NaN", of_rows(guesses=[[["x", math.nan]]]), LINE),
    read("a row id that is a number", of_rows(row_id=7), LINE),
    read("a row id of 5,000 digits", of_rows(row_id="forget1:" + LONG)),
    read("a row id with digits that are none", of_rows(row_id="forget1:²")),
    read("a row id of another set", of_rows(row_id="retain:3"), LINE),
    read("an identity that is null", of_rows(identity=[]), ""),
    read("a hop of 10**30", of_rows(hop=10**30), LINE),
    read("a hop that is a text", of_rows(hop="one"), LINE),
    read("a hop of -1", of_rows(hop=-1), LINE),
    read(
        "half of a character pair in a reply",
        edit_line(lambda s: s.update(filtered_resps=["\ud800"])),
        command="report",
    ),
    read("replies nested in lists", edit_line(lambda s: s.update(filtered_resps=[[[[]]]])), command="report"),
    # Sealed: what the numbers do not show, the digests do
    read(
        "sealed: a digest of the samples is gone",
        results(**{f"{KEY}__samples__remem_forget1": None}),
        sealed=True,
        counted="no digest of the samples of remem_forget1",
    ),
    *(
        read(f"sealed: {name}", change, says, sealed=True, command=command)
        for name, change, says, command in (
            ("the samples of another run", other_runs_samples, "samples", "report"),
            (
                "a reply is edited",
                edit_line(lambda s: s.update(filtered_resps=["Oslo Bay"])),
                "digest",
                "report",
            ),
            (
                "a score is edited in both",
                lambda f: (all_zero(f), of_task(remem_memo=0.0)(f)),
                "digest",
                "gate",
            ),
            ("the settings are edited", results(config__limit=5), "settings", "gate"),
            (
                "the fingerprint is edited",
                results(configs__remem_forget1__metadata__fingerprint="0" * 16),
                "digest",
                "board",
            ),
            ("lines in another order", lines_of(lambda lines: lines[::-1]), "digest", "diagnose"),
            ("digests that are null", results(**{KEY: []}), "digest", "gate"),
            ("digests of a format to come", results(**{f"{KEY}__format": 99}), "format", "gate"),
            ("weights of another digest", results(**{f"{KEY}__weights": "0" * 32}), "digest", "board"),
        )
    ),
    read(
        "sealed over a row twice",
        resealed(lines_of(lambda ls: [*ls[:-1], ls[0]])),
        "second time",
        sealed=True,
    ),
    # What the other commands read is read the same way
    *(
        read(
            f"{command}: a score that is NaN", edit_line(lambda s: s.update(remem_em=math.nan)), LINE, command
        )
        for command in ("report", "board", "diagnose")
    ),
    *(
        read(f"{command}: samples cut", cut(SAMPLES), SAMPLES, command)
        for command in ("report", "board", "diagnose")
    ),
]
