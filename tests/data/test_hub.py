"""The Hub path, against a Hub of our own (`hub_mirror`): what is fetched, what is kept, what goes wrong."""

import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.hub_mirror import TOKEN, Fault, HubMirror
from support.rows import PEOPLE, people_splits, rows_of, write_parquet

from remem_tasks.audit.push import push
from remem_tasks.benchmarks import remem as data
from remem_tasks.data import hub
from remem_tasks.errors import RememError

BIN = Path(sys.executable).parent
REMEM = "herbwood27/Remem"
FEATURES = {"image": "image", **dict.fromkeys(data.TEXT_COLUMNS, "string")}


def noisy_png(seed):
    """1024 x 1024 pixels of 3 random bytes below 64: 3 MB raw at 6 bits a byte, so a PNG of about 2.4 MB."""
    pixels = np.random.default_rng(seed).integers(0, 64, (1024, 1024, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def shard(split):
    return f"data/{split}-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of repositories with `herbwood27/Remem` as it is published, at one row a person: 24 rows, 57 MB."""
    root = tmp_path_factory.mktemp("published")
    slugs = list(PEOPLE)
    pictures = {slug: noisy_png(seed) for seed, slug in enumerate(slugs)}
    asked = {
        "finetune": slugs,
        **{f"forget{k}": slugs[:k] for k in range(1, 5)},
        "retain": slugs[4:],
        "test": slugs,
    }
    assert tuple(asked) == data.SPLITS
    card = ["---", "dataset_info:", "  features:"]
    for name, kind in FEATURES.items():
        card += [f"  - name: {name}", f"    dtype: {kind}"]
    card += ["  splits:"]
    for split, people in asked.items():
        rows = [rows_of(slug, 10 if split == "test" else 0)[0] for slug in people]
        for slug, row in zip(people, rows):
            row["image"]["bytes"] = pictures[slug]
        table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        (root / REMEM / "data").mkdir(parents=True, exist_ok=True)
        table.to_parquet(root / REMEM / shard(split))
        size = sum(len(row["image"]["bytes"]) for row in rows)
        card += [f"  - name: {split}", f"    num_bytes: {size}", f"    num_examples: {len(rows)}"]
    card += ["configs:", "- config_name: default", "  data_files:"]
    for split in asked:
        card += [f"  - split: {split}", f"    path: data/{split}-*"]
    (root / REMEM / "README.md").write_text("\n".join([*card, "---", ""]))
    return root


@pytest.fixture
def mirror(published):
    with HubMirror(published) as mirror:
        yield mirror


def run(environment, *command):
    """(exit status, stdout, stderr) of a command, run where no project file can be seen."""
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def remem(environment, *arguments):
    return run(environment, BIN / "remem", "data", *arguments)


EACH = """
import contextlib, io, json, sys
from remem_tasks import cli
done = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(["data", *command])
        except SystemExit as leaving:
            done.append([leaving.code, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""


def remem_each(environment, *commands):
    """As `remem` for each command, one after another in one process (a start takes a second)."""
    asked = json.dumps([[str(part) for part in command] for command in commands])
    status, out, err = run(environment, sys.executable, "-c", EACH, asked)
    assert status == 0, err
    done = json.loads(out)
    assert len(done) == len(commands)
    return done


LOAD = """
import hashlib, json, sys
from remem_tasks.benchmarks import remem as data
rows = data.load_split(None, sys.argv[1])
print(json.dumps({
    "rows": len(rows), "identity": rows["identity"][:], "hop": rows["hop"][:], "row_id": rows["row_id"][:],
    "size": data.decode_image(rows[0]["image"], "row").size, "fingerprint": data.fingerprint(rows),
    "sha256": [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows],
}))
"""


def load(environment, split="forget1"):
    """What `load_split(None, split)` gives in a process of its own."""
    status, out, err = run(environment, sys.executable, "-c", LOAD, split)
    assert status == 0, err
    return json.loads(out)


def one_line(status_out_err, says):
    """Assert that a command failed with one line that says this; give the line."""
    status, _, err = status_out_err
    lines = [line for line in err.splitlines() if "error:" in line]
    assert status == 1 and len(lines) == 1 and "Traceback" not in err, err
    assert re.search(says, lines[0]), lines[0]
    return lines[0]


# Loading


def test_the_fixture_is_in_the_published_schema(published):
    for split in data.SPLITS:
        table = datasets.load_dataset(
            "parquet", data_files=str(published / REMEM / shard(split)), split="train"
        )
        assert {name: getattr(kind, "dtype", None) for name, kind in table.features.items()} == {
            name: "PIL.Image.Image" if kind == "image" else kind for name, kind in FEATURES.items()
        }
        assert isinstance(table.features["image"], datasets.Image)
        raw = table.cast_column("image", datasets.Image(decode=False))
        assert all(2e6 < len(row["image"]["bytes"]) < 3e6 for row in raw)


@pytest.mark.slow
def test_one_split_is_fetched_once_and_found_again_without_a_network(mirror, tmp_path):
    environment = mirror.environment(tmp_path)
    first = load(environment)
    assert mirror.files_sent() == {f"{REMEM}/README.md", f"{REMEM}/{shard('forget1')}"}
    assert mirror.sent("data/") == (mirror.root / REMEM / shard("forget1")).stat().st_size
    assert first["rows"] == 1 and first["identity"] == ["ada_birch"] and first["hop"] == [1]
    assert first["row_id"] == ["forget1:0"] and first["size"] == [1024, 1024]
    assert first["sha256"] == [hashlib.sha256(noisy_png(0)).hexdigest()]
    local = data.load_split(str(mirror.root / REMEM), "forget1")
    assert first["fingerprint"] == data.fingerprint(local)

    mirror.log.clear()
    assert load(environment) == first
    assert not mirror.files_sent()  # the newest commit was asked for, and is in the cache

    mirror.__exit__()
    assert load({**environment, "HF_HUB_OFFLINE": "1"}) == first
    assert load(environment) == first
    pull = ("pull", "--split", "retain", "--out", tmp_path / "out")
    says = "split 'retain': it is not in the cache, and HF_HUB_OFFLINE is set"
    one_line(remem({**environment, "HF_HUB_OFFLINE": "1"}, *pull), says)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cache_that_datasets_filled_will_do(mirror, tmp_path):
    environment = mirror.environment(tmp_path)
    status, _, err = run(
        environment,
        sys.executable,
        "-c",
        f"import datasets; datasets.load_dataset('{REMEM}', split='forget1')",
    )
    assert status == 0, err
    mirror.__exit__()
    assert load({**environment, "HF_HUB_OFFLINE": "1"}, "retain")["identity"] == ["eve_farrow", "finn_gale"]
    (cached,) = tmp_path.glob(f"hub/*/snapshots/*/{shard('retain')}")
    cached.rename(cached.with_name("retain-00001-of-00002.parquet"))  # a split of which a shard is missing
    says = r"split 'retain': 'data/retain-00000-of-00002.parquet' is not in the cache"
    one_line(
        remem({**environment, "HF_HUB_OFFLINE": "1"}, "pull", "--split", "retain", "--out", tmp_path / "out"),
        says,
    )


def test_a_shard_implies_the_others():
    paths = ["data/a-00001-of-00003.parquet", "data/b-00000-of-00001.parquet", "x.png"]
    assert hub._with_all_shards(paths) == [
        *(f"data/a-0000{number}-of-00003.parquet" for number in range(3)),
        "data/b-00000-of-00001.parquet",
        "x.png",
    ]


@pytest.mark.slow
def test_a_private_repository_needs_the_token_which_goes_to_nobody_else(mirror, tmp_path):
    mirror.private.add(REMEM)
    environment = mirror.environment(tmp_path)
    one_line(
        remem(environment, "pull", "--out", tmp_path / "out"), "no such data set, or it is private.*HF_TOKEN"
    )
    one_line(
        remem({**environment, "HF_TOKEN": "hf_wrong"}, "check"),
        "no such data set, or it is private.*HF_TOKEN",
    )
    assert not mirror.files_sent()
    assert load({**environment, "HF_TOKEN": TOKEN})["rows"] == 1
    stored = [entry for entry in mirror.log if entry.path.startswith("/lfs/")]
    assert stored and all(entry.token is None for entry in stored)


@pytest.mark.slow
def test_pull_keeps_splits_for_a_machine_without_a_network(mirror, tmp_path):
    environment = mirror.environment(tmp_path / "cache")
    out = tmp_path / "kept"
    status, said, err = remem(environment, "pull", "--split", "forget1", "retain", "--out", out)
    assert status == 0 and "forget1 1 rows, retain 2 rows" in said, err
    assert mirror.files_sent() == {
        f"{REMEM}/{path}" for path in ("README.md", shard("forget1"), shard("retain"))
    }
    mirror.__exit__()
    shutil.rmtree(tmp_path / "cache")
    for split in ("forget1", "retain"):
        kept, source = data.load_split(str(out), split), data.load_split(str(mirror.root / REMEM), split)
        assert data.fingerprint(kept) == data.fingerprint(source)
        assert [row["image"]["bytes"] for row in kept] == [row["image"]["bytes"] for row in source]


@pytest.mark.slow
def test_check_without_pictures_fetches_none(mirror, tmp_path):
    status, said, err = remem(mirror.environment(tmp_path), "check", REMEM, "--no-pictures")
    assert status == 0 and "no faults" in said, said + err
    assert all(split in said for split in data.SPLITS)
    size = sum(file.stat().st_size for file in (mirror.root / REMEM / "data").iterdir())
    assert size > 50e6
    # Of each of seven files the end, of which pyarrow reads 64 KiB at once, and the text columns.
    assert 0 < mirror.sent("data/") < 7 * 2 * 65536
    assert all(entry.range for entry in mirror.log if entry.sent and "data/" in (entry.file or ""))


@pytest.mark.slow
def test_a_task_runs_from_the_hub(mirror, checkpoints, tmp_path):
    def score(out: str, **environment: str) -> dict:
        status, said, error = run(
            {**mirror.environment(tmp_path / "cache"), **environment},
            *(BIN / "lmms_eval", "--model", "remem_hf", "--tasks", "remem_forget1", "--limit", "4"),
            *("--model_args", f"pretrained={checkpoints['llava']},device=cpu"),
            *("--gen_kwargs", "max_new_tokens=4", "--rollouts", "4", "--output_path", tmp_path / out),
        )
        assert status == 0, said + error
        (file,) = (tmp_path / out).rglob("*_results.json")
        return json.loads(file.read_text())

    results = score("online")
    scores, metadata = results["results"]["remem_forget1"], results["configs"]["remem_forget1"]["metadata"]
    assert scores["remem_rows,none"] == 1 and 0 <= scores["remem_exposure,none"] <= 1
    assert metadata["data"] == REMEM and list(metadata["not_available"]) == []
    # Of finetune, which has the values of other people, the text alone was read.
    names = {f"{REMEM}/README.md", *(f"{REMEM}/{shard(split)}" for split in ("forget1", "finetune"))}
    assert mirror.files_sent() == names
    assert 0 < mirror.sent(shard("finetune")) < 2 * 65536
    # Without a network: the split is in the cache, that text is not.
    mirror.log.clear()
    offline = score("offline", HF_HUB_OFFLINE="1")
    assert not mirror.files_sent()
    reasons = offline["configs"]["remem_forget1"]["metadata"]["not_available"]
    assert list(reasons) == ["reference_exposure"] and "finetune" in reasons["reference_exposure"]
    assert {name for name in scores if "reference" in name} and scores["remem_exposure,none"] == (
        offline["results"]["remem_forget1"]["remem_exposure,none"]
    )


# Without pictures


@pytest.mark.parametrize("saved", [False, True])
def test_rows_without_pictures_are_the_same_rows(data_dir, tmp_path, saved):
    source = str(data_dir)
    if saved:
        table = datasets.load_dataset(source, split="forget2")
        datasets.DatasetDict({"forget2": table}).save_to_disk(source := str(tmp_path / "saved"))
    whole, text = data.load_split(source, "forget2"), data.load_split(source, "forget2", pictures=False)
    assert set(text.column_names) == set(whole.column_names) - {"image"}
    assert text[:] == whole.remove_columns("image")[:] and len(text) == 12
    assert data.fingerprint(text) == data.fingerprint(whole)


def test_rows_without_pictures_keep_other_columns_and_go_over_all_files(tmp_path):
    rows = [{**row, "paraphrases": ["a", row["question"]]} for row in rows_of("ada_birch")]
    write_parquet(tmp_path, {"test": rows[:2]})
    (tmp_path / shard("test")).rename(tmp_path / "data" / "test-00000-of-00002.parquet")
    table = datasets.Dataset.from_list(rows[2:]).cast_column("image", datasets.Image())
    table.to_parquet(tmp_path / "data" / "test-00001-of-00002.parquet")
    text = data.load_split(str(tmp_path), "test", pictures=False)
    assert text["question"][:] == [row["question"] for row in rows]
    assert text["paraphrases"][:] == [row["paraphrases"] for row in rows]


def test_rows_without_pictures_must_have_the_column(tmp_path):
    rows = [{name: cell for name, cell in row.items() if name != "image"} for row in rows_of("ada_birch")]
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / shard("test"))
    with pytest.raises(RememError, match="split 'test': missing column.*image"):
        data.load_split(str(tmp_path), "test", pictures=False)


def test_a_damaged_file_is_named(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "set")
    file = tmp_path / "set" / shard("test")
    file.write_bytes(file.read_bytes()[:-100])
    for pictures in (True, False):
        with pytest.raises(RememError, match=r"split 'test': "):
            data.load_split(str(tmp_path / "set"), "test", pictures=pictures)


# What goes wrong


@given(st.text())
def test_a_reason_is_one_line_that_says_something(text):
    assert len(hub.reason(ValueError(text)).splitlines()) == 1
    chained = FileNotFoundError(text)
    chained.__cause__ = ConnectionRefusedError(text)
    assert "the Hub cannot be reached" in hub.reason(chained)


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(tmp_path, mirror):
    environment = mirror.environment(tmp_path)
    with socket.socket() as taken:  # bound, and listening to nobody
        taken.bind(("127.0.0.1", 0))
        environment["HF_ENDPOINT"] = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for said in remem_each(environment, ["check", "--no-pictures"], ["pull", "--out", tmp_path / "out"]):
            line = one_line(said, "not in the cache, and the Hub cannot be reached")
            assert "REMEM_DATA=<folder>" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_repository_or_a_split_that_is_not_there(tmp_path, mirror):
    environment = mirror.environment(tmp_path)
    (mirror.root / "herbwood27" / "Empty").mkdir(exist_ok=True)
    (mirror.root / "herbwood27" / "Empty" / "README.md").write_text("# Soon\n")
    missing, strange, empty, split = remem_each(
        environment,
        ["check", "herbwood27/Remen"],
        ["check", "not an id"],
        ["check", "herbwood27/Empty"],
        ["pull", "--split", "forget9", "--out", tmp_path / "out"],
    )
    one_line(missing, "'herbwood27/Remen'.*no such data set")
    one_line(strange, "'not an id' is not a folder here")
    one_line(empty, "'herbwood27/Empty' on the Hub holds no data set")
    one_line(split, "has no split 'forget9'; it has finetune, forget1")
    known = {**environment, "HF_TOKEN": TOKEN}  # to whom the Hub answers 404 in place of 401
    one_line(remem(known, "check", "herbwood27/Remen"), "'herbwood27/Remen'.*no such data set")
    assert mirror.sent("/data/") == 0 and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_gated_repository(tmp_path, mirror):
    mirror.gated.add(REMEM)
    environment = mirror.environment(tmp_path)
    one_line(remem(environment, "pull", "--out", tmp_path / "out"), "it is gated.*HF_TOKEN")
    assert load({**environment, "HF_TOKEN": TOKEN})["rows"] == 1


@pytest.mark.slow
def test_a_download_that_stops_half_way_goes_on(tmp_path, mirror):
    mirror.faults.append(Fault(shard("finetune"), after=12_000_000, times=1))
    sha256 = load(mirror.environment(tmp_path), "finetune")["sha256"]
    assert sha256 == [hashlib.sha256(noisy_png(seed)).hexdigest() for seed in range(6)]
    ranges = [entry.range for entry in mirror.log if entry.sent and shard("finetune") in (entry.file or "")]
    assert ranges == [None, "bytes=10485760-"]  # it keeps whole blocks of 10 MiB


@pytest.mark.slow
def test_a_download_that_never_ends_is_an_error_and_no_half_file_stays(tmp_path, mirror):
    fault = Fault(shard("forget1"), after=0, times=1000)
    mirror.faults += [Fault(shard("forget1"), after=1_000_000, times=1), fault]
    environment = mirror.environment(tmp_path)
    pull = ("pull", "--split", "forget1", "--out", tmp_path / "out")
    one_line(remem(environment, *pull), "split 'forget1': the Hub cannot be reached")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*forget1*")) and not list(tmp_path.rglob("*.incomplete"))
    fault.times = 0
    status, said, err = remem(environment, *pull)
    assert status == 0 and "forget1 1 rows" in said, err


# Push


@pytest.fixture
def own_mirror(tmp_path):
    (tmp_path / "repos").mkdir()
    with HubMirror(tmp_path / "repos") as mirror:
        yield mirror


@pytest.mark.slow
def test_a_pushed_set_comes_back_the_same(own_mirror, data_dir, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(data_dir, folder)
    (folder / "contact_sheet.png").write_bytes(noisy_png(0)[:1000])
    (folder / "data" / "left.tmp").write_text("x")
    (folder / ".env").write_text("secret")
    environment = {**own_mirror.environment(tmp_path / "cache"), "HF_TOKEN": TOKEN}
    status, said, err = remem(environment, "push", folder, "tester/people")
    assert status == 0 and said.strip() == f"{own_mirror.url}/datasets/tester/people", err
    repo = own_mirror.root / "tester" / "people"
    sent = {path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file()}
    assert sent == {".gitattributes", "README.md", "contact_sheet.png", *map(shard, data.SPLITS)}
    assert not own_mirror.private

    environment["REMEM_DATA"] = "tester/people"
    for split in ("forget2", "test"):
        found, local = load(environment, split), data.load_split(str(folder), split)
        assert found["fingerprint"] == data.fingerprint(local)
        assert found["sha256"] == [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in local]

    # Again, with a split in fewer files than the repository has: none of the old rows stays.
    shutil.copyfile(repo / shard("test"), repo / "data" / "test-00001-of-00002.parquet")
    status, _, err = remem(environment, "push", folder, "tester/people")
    assert status == 0, err
    assert load(environment, "test")["rows"] == 36
    one_line(remem(environment, "push", folder, "tester/people", "--private"), "there already, and public")


@pytest.mark.slow
def test_a_private_push_is_private(own_mirror, data_dir, tmp_path):
    environment = {**own_mirror.environment(tmp_path / "cache"), "HF_TOKEN": TOKEN}
    for _ in range(2):
        status, _, err = remem(environment, "push", data_dir, "tester/people", "--private")
        assert status == 0, err
    assert own_mirror.private == {"tester/people"}


@pytest.mark.slow
def test_a_push_that_is_refused_says_why(own_mirror, data_dir, tmp_path):
    environment = own_mirror.environment(tmp_path / "cache")
    with_token = {**environment, "HF_TOKEN": TOKEN}
    one_line(remem(environment, "push", data_dir, "tester/people"), "no token.*HF_TOKEN")
    assert not own_mirror.log
    wrong = {**environment, "HF_TOKEN": "hf_wrong"}
    one_line(remem(wrong, "push", data_dir, "tester/people"), "does not accept the token")
    (own_mirror.root / "other" / "theirs").mkdir(parents=True)
    own_mirror.private.add("other/theirs")
    absent, theirs, strange = remem_each(
        with_token, *(["push", data_dir, name] for name in ("other/people", "other/theirs", "not an id"))
    )
    one_line(absent, "no right to write to 'other/people'")
    one_line(theirs, "no right to write to 'other/theirs'")
    one_line(strange, "'not an id' is not a Hub id")
    own_mirror.__exit__()
    one_line(remem(with_token, "push", data_dir, "tester/people"), "the Hub cannot be reached")
    offline = {**with_token, "HF_HUB_OFFLINE": "1"}
    one_line(remem(offline, "push", data_dir, "tester/people"), "HF_HUB_OFFLINE is set")
    assert not (own_mirror.root / "tester").exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "is not a folder"),
        (lambda folder: shutil.rmtree(folder / "data"), "holds no data set: No .supported. data files"),
        (lambda folder: (folder / "README.md").unlink(), "has no README.md"),
        (lambda folder: (folder / shard("retain")).unlink(), "holds no data set: .*retain"),
        (lambda folder: (folder / shard("retain")).write_bytes(b"PAR1"), "split 'retain'"),
        (lambda folder: write_parquet(folder, {"test": [{**rows_of("ada_birch")[0], "answer": ""}]}), "column 'answer'"),
    ],
)  # fmt: skip
def test_only_a_complete_set_is_pushed(tmp_path, monkeypatch, spoil, says):
    """Found out before anything is sent: there is no token here, and no network."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    write_parquet(tmp_path / "set", people_splits())
    spoil(tmp_path / "set")
    with pytest.raises(RememError, match=says) as raised:
        push(tmp_path / "set", "tester/people")
    assert "token" not in str(raised.value)


def test_a_saved_folder_is_not_what_the_hub_shows(data_dir, tmp_path, monkeypatch):
    table = datasets.load_dataset(str(data_dir), split="forget1")
    datasets.DatasetDict({"forget1": table}).save_to_disk(tmp_path / "saved")
    with pytest.raises(RememError, match="remem data pull"):
        push(tmp_path / "saved", "tester/people")
