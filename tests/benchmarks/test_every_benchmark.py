"""Every registered benchmark on rows that its forge generates: what the seam asks of each."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lmms_eval.evaluator  # noqa: F401  loads the entry points, as every run does
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from lmms_eval.tasks import TaskManager
from PIL import Image
from support.hub_mirror import check_card
from support.scripted import Scripted, run
from support.slow import in_turn, others_slow
from support.trainers import trainer_of

from remem_tasks import cli
from remem_tasks.benchmarks.base import FailedReply, RunContext
from remem_tasks.benchmarks.registry import BENCHMARKS, NAMES, data_of, part_of
from remem_tasks.benchmarks.scoring_config import BackendCapabilities, ScoringConfig, fit
from remem_tasks.benchmarks.views import VIEWS
from remem_tasks.checkpoints import load_processor
from remem_tasks.data import source as configs
from remem_tasks.engine.prompts import Chat, Prompts
from remem_tasks.errors import RememError
from remem_tasks.harness.plugin import TASKS_FOLDERS
from remem_tasks.harness.remem_hf import RememHF
from remem_tasks.report.samples import _row_of
from unlearning.data import Encoder, load_rows

# What a forge is asked for here: the knobs in the benchmark's own folder of tests; the template's stand here.
FORGES = {"mine": {"identities": 4, "images": 2, "image_size": 32}} | {
    file.parent.name: yaml.safe_load(file.read_text()) for file in Path(__file__).parent.glob("*/forge.yaml")
}
VARIABLES = {name: "REMEM_DATA" if name == "remem" else data_of(name).HOME.variable for name in NAMES}
WHITE_BOX = BackendCapabilities(white_box="", rollouts="")


def task_splits(name):
    """(task, split) of each leaf YAML of a benchmark."""
    found = []
    for file in sorted(
        file for folder in TASKS_FOLDERS for file in Path(folder, name, "tasks").glob("*.yaml")
    ):
        config = yaml.safe_load(file.read_text())
        if "group" not in config:
            found.append((config["task"], config["test_split"]))
    return found


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """{benchmark: folder of generated data}."""
    folders = {}
    for name, knobs in FORGES.items():
        forge = part_of(name, "forge")
        folders[name] = tmp_path_factory.mktemp(name) / "data"
        forge.forge(folders[name], forge.ForgeOptions(**knobs))
    return folders


@pytest.fixture
def here(generated, monkeypatch):
    for name, folder in generated.items():
        monkeypatch.setenv(VARIABLES[name], str(folder))
    return generated


def test_all_are_walked():
    assert set(BENCHMARKS) == set(FORGES) == set(VARIABLES) == set(NAMES)


@pytest.mark.parametrize("name", list(FORGES))
def test_the_seam(generated, name):
    """Rows of every task: ids, requests, pictures, an white-box request, scores that are among the metrics and JSON."""
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name and task_splits(name)
    for task, split in task_splits(name):
        rows, source = benchmark.load(str(generated[name]), split)
        assert len(rows) and source == str(generated[name])
        assert task == f"{name}_{split}"
        assert len(set(rows["row_id"][:])) == len(rows)
        again, _ = benchmark.load(source, split)
        assert benchmark.fingerprint(rows) == benchmark.fingerprint(again)
        for capabilities in (WHITE_BOX, BackendCapabilities()):
            scoring, missing = fit(ScoringConfig(rollouts=4), capabilities)
            context = RunContext(scoring, missing, not capabilities.white_box)
            context = benchmark.prepare(source, split, rows, context)
            metrics = [metric.name for metric in benchmark.metrics(rows, split, context)]
            assert len(metrics) == len(set(metrics)) and all(one.startswith(f"{name}_") for one in metrics)
            # the harness matches names by substring
            assert not [(a, b) for a in metrics for b in metrics if a != b and a in b]
            assert {f"{name}_blank_rate", f"{name}_failed_rate", f"{name}_rows"} <= set(metrics)
            for doc in rows.select(range(min(len(rows), 4))):
                requests = benchmark.requests(doc, context)
                assert requests and all(request.prompt.strip() for request in requests)
                assert benchmark.target(doc).strip()
                assert all(isinstance(picture, Image.Image) for picture in benchmark.images(doc))
                white_box_request = benchmark.white_box_request(doc, context)
                assert white_box_request is None or (
                    not capabilities.white_box and white_box_request.row_id == doc["row_id"]
                )
                for replies in (["said"] * len(requests), [FailedReply("x")] * len(requests)):
                    scores = benchmark.score(doc, replies, context)
                    assert set(scores) <= set(metrics)
                    assert scores[f"{name}_failed_rate"] == float(replies[0] != "said")
                    assert json.loads(json.dumps(scores[f"{name}_rows"]))["row_id"] == doc["row_id"]
                    sample = {f"{name}_rows": scores[f"{name}_rows"], "target": "", "input": ""}
                    assert _row_of(sample, VIEWS[name], False, "here")[0].row_id == doc["row_id"]


@pytest.mark.parametrize("name", list(FORGES))
def test_its_card_is_one_that_the_hub_takes(generated, name):
    check_card(generated[name])


def test_one_name_for_a_set_to_forget_and_a_set_to_keep_of_each():
    """`--tasks lvlm_unlearning`."""
    members = TaskManager(include_defaults=False).task_index["lvlm_unlearning"]["task"]
    of = {name: [task for task in members if task.startswith(f"{name}_")] for name in NAMES if name != "mine"}
    assert sorted(members) == sorted(task for tasks in of.values() for task in tasks)
    for name, tasks in of.items():
        assert [task.split("_")[1].rstrip("0123456789") for task in sorted(tasks)] == ["forget", "retain"], (
            name
        )


@pytest.mark.parametrize(("name", "split"), [("clear", "forget10+tofu"), ("mllmu", "test_5")])
def test_large_files_are_mapped(generated, name, split, monkeypatch):
    """Files above a size are read by `datasets` from its cache: the same rows, the same pictures."""
    benchmark, source = BENCHMARKS[name], str(generated[name])

    def seen():
        monkeypatch.setattr(configs, "_tables", {})
        rows, _ = benchmark.load(source, split)
        return rows.to_list(), [[one.tobytes() for one in benchmark.images(doc)] for doc in rows]

    before = seen()
    monkeypatch.setattr(configs, "IN_MEMORY", 0)
    assert seen() == before and any(before[1])


@pytest.mark.parametrize("name", list(FORGES))
def test_other_rows_have_another_fingerprint(generated, name):
    benchmark = BENCHMARKS[name]
    prints = {
        benchmark.fingerprint(benchmark.load(str(generated[name]), split)[0])
        for _, split in task_splits(name)
    }
    assert len(prints) > len(task_splits(name)) // 2


def test_one_run_over_all(here, checkpoints, monkeypatch):
    """As in `lmms_eval --tasks remem_forget1,clear_forget10,clear_real_faces,mllmu_forget_5 --model remem_hf`."""
    monkeypatch.setenv("REMEM_ROLLOUTS", "4")
    monkeypatch.setenv("REMEM_MEMO_TOKENS", "4")
    tasks = ["remem_forget1", "clear_forget10", "clear_real_faces", "mllmu_forget_5"]
    tasks += ["fiubench_forget5", "umu_forget_5", "offside_forget", "mlubench_forget_a", "unlok_forget"]
    model = RememHF(str(checkpoints["llava"]), device="cpu")
    results = run(model, tasks, gen_kwargs="max_new_tokens=3", limit=2)
    for task in tasks:
        name = task.split("_")[0]
        scores = results["results"][task]
        assert scores[f"{name}_failed_rate,none"] == 0.0 and scores[f"{name}_rows,none"] > 0
        metadata = results["configs"][task]["metadata"]
        assert metadata["data"] == str(here[name]) and len(metadata["fingerprint"]) == 16
        said = {key.split(",")[0] for key in scores if key.startswith(name) and "stderr" not in key}
        assert said <= set(results["higher_is_better"][task])


def test_whole_answers_of_every_benchmark(here, checkpoints, monkeypatch):
    """`--metrics em,membership,memorisation`: scores of each, and an area where other answers stand beside the rows."""
    monkeypatch.setenv("REMEM_METRICS", "em,membership,memorisation")
    tasks = {
        name: min((task for task, split in task_splits(name) if "forget" in split), key=len) for name in NAMES
    }
    model = RememHF(str(checkpoints["llava"]), device="cpu")
    results = run(model, list(tasks.values()), gen_kwargs="max_new_tokens=3", limit=2)
    with_area = set()
    for name, task in tasks.items():
        scores = results["results"][task]
        assert 0 <= scores[f"{name}_exact_memorisation,none"] <= 1
        assert 0 <= scores[f"{name}_extraction_strength,none"] <= 1
        assert scores[f"{name}_member_mink40,none"] <= scores[f"{name}_member_loss,none"] < 0
        assert results["configs"][task]["metadata"]["suite"]["metrics"] == [
            "em",
            "membership",
            "memorisation",
        ]
        if f"{name}_member_auc_loss,none" in scores:
            assert 0 <= scores[f"{name}_member_auc_loss,none"] <= 1
            with_area.add(name)
        else:
            assert results["configs"][task]["metadata"]["not_available"]["member_auc"]
    assert with_area == {"remem", "clear", "fiubench", "unlok"}


IN_TURNS = {
    "blank behind, no end": (
        "{% for m in messages %}{{ m.role.upper() }}: {% for c in m.content if c.type == 'image' %}<image>\n"
        "{% endfor %}{% for c in m.content if c.type == 'text' %}{{ c.text }} {% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "start, blanks and lines": (
        "<s>{% for m in messages %}[{{ m.role }}]\n{% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text | trim }}{% endfor %} \n</s>\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    ),
    "asks with a blank": (
        "{% for m in messages %}{{ m.role }}: {% for c in m.content %}"
        "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    ),
}


@pytest.mark.parametrize(
    ("name", "template"),
    in_turn(FORGES, [(template,) for template in (None, *IN_TURNS)]),
)
def test_training_and_scores_give_a_model_the_same_ids(generated, checkpoints, name, template):
    """What is trained on, prompt and answer, is what scores ask for: the rows that both have, one by one."""
    data, benchmark = str(generated[name]), BENCHMARKS[name]
    forget = min((split for _, split in task_splits(name) if split.startswith("forget")), key=len)
    rows = load_rows(data, "pairs", forget).forget
    taught = {
        (row["question"], bool(row.get("text_only")), row["answer"]): row
        for row in rows.select(range(len(rows)))
    }
    compared = 0
    for arch in ("llava", "qwen2_5_vl") if template is None else ("llava",):
        processor = load_processor(str(checkpoints[arch]))
        if template is not None:
            processor.chat_template = IN_TURNS[template]
        encoder, prompts = Encoder(processor), Prompts(processor)
        for split in data_of(name).scored_as(forget):
            docs, source = benchmark.load(data, split)
            context = benchmark.prepare(source, split, docs, RunContext(ScoringConfig(), white_box=True))
            for doc in docs:
                (request, *_), pictures = benchmark.requests(doc, context), benchmark.images(doc)
                row = taught.get((request.prompt, not pictures, benchmark.target(doc)))
                if row is None or compared > 24:
                    continue
                content = [{"type": "image", "image": one} for one in pictures]
                chat = Chat(
                    [{"role": "user", "content": [*content, {"type": "text", "text": request.prompt}]}], "row"
                )
                ours, asked = encoder.encode_prompt(row), prompts.encode([chat])
                assert ours["input_ids"].tolist() == asked["input_ids"].tolist()
                (said,), labels = prompts.answers([(chat, [doc["answer"]])])[0], encoder.encode_answer(row)
                assert labels[: len(said)].tolist() == said and labels[-1] in prompts.ends
                whole = prompts.tokenizer.decode(said, skip_special_tokens=True)
                assert whole.strip() == doc["answer"].strip()
                compared += 1
    assert compared, "no row is trained on and asked for"


@pytest.mark.parametrize("name", list(FORGES))
def test_a_silent_backend_fails_every_task(here, name):
    task, _ = task_splits(name)[0]
    results = run(Scripted(lambda row: None), task, limit=2)
    assert results["results"][task][f"{name}_failed_rate,none"] == 1.0


@pytest.mark.parametrize("name", [name for name in FORGES if name != "remem"])  # (ReMem's: tests/audit)
def test_data_check(generated, name, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "check", str(generated[name])])
    assert not left.value.code, capsys.readouterr().out
    assert "no faults" in capsys.readouterr().out


MARKS = {
    "a picture's place": ("<|image_pad|>", "which chat templates take for a token of their own"),
    "the end of a turn": ("</s>", "which chat templates take for a token of their own"),
    "half a pair": ("\ud800", "holds half of a character pair"),
}


def written_behind(folder, answer, mark):
    """Writes a mark behind an answer, wherever it stands in the files of a data set."""
    half = mark == "\ud800"
    for file in [one for one in folder.rglob("*") if one.suffix in (".json", ".parquet")]:
        if file.suffix == ".json":
            text = file.read_text()
            found = re.escape(
                json.dumps(answer)[1:-1]
            )  # (FIUBench's are read in other capitals than they are written)
            file.write_text(
                re.sub(found, lambda said: said[0] + json.dumps(mark)[1:-1], text, flags=re.IGNORECASE)
            )
            continue
        rows = pq.read_table(file)
        found = json.dumps(
            rows.drop_columns([n for n in ("image", "images") if n in rows.column_names]).to_pylist()
        )
        quoted = json.dumps(answer)[1:-1]
        for form in dict.fromkeys((quoted, json.dumps(quoted)[1:-1])):
            # (In UMU's cells a Python literal writes the half; in JSON's, JSON.)
            found = found.replace(form, form + ("\\\\ud800" if half else mark))
        kept = {name: [row[name] for row in json.loads(found)] for name in json.loads(found)[0]}
        for name, cells in kept.items():
            column = pa.array(cells, rows.schema.field(name).type)
            rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), column)
        pq.write_table(rows, file)


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("name", others_slow(FORGES, "remem", "umu"))
def test_what_no_model_can_be_taught_is_found_by_the_check_and_refused_by_training(
    generated, tmp_path, name, mark
):
    written, said = MARKS[mark]
    forget = min((split for _, split in task_splits(name) if split.startswith("forget")), key=len)
    if written == "\ud800" and name not in ("fiubench", "offside", "mlubench", "umu", "unlok", "safeeraser"):
        return  # parquet holds none
    if name == "vlmunbench":
        return  # its answers are digits, which its files hold as numbers
    folder = tmp_path / "data"
    shutil.copytree(generated[name], folder)
    answer = load_rows(str(folder), "pairs", forget).forget["answer"][-1]
    written_behind(folder, answer, written)
    with pytest.raises(RememError, match=said):
        load_rows(str(folder), "pairs", forget)
    faults = data_of(name).check(str(folder)).faults
    assert said in json.dumps(faults)


@pytest.mark.slow
def test_a_folder_alone_is_trained_on_gated_and_reported(
    generated, checkpoints, monkeypatch, tmp_path, capsys
):
    """The template of the docs: nothing outside its folder names it."""
    data, model, results = str(generated["mine"]), str(checkpoints["llava"]), str(tmp_path / "results")
    monkeypatch.setenv("REMEM_MINE_DATA", data)
    rows = load_rows(data, "pairs", "forget")
    assert (rows.benchmark, len(rows.forget), len(rows.retain)) == ("mine", 2, 6)
    trainer = trainer_of(data, model, tmp_path / "npo", "npo", "--forget", "forget", "--max_steps", "1")
    assert trainer.train().global_step == 1
    subprocess.run(
        [
            *(sys.executable, "-m", "lmms_eval", "--model", "remem_hf"),
            *("--model_args", f"pretrained={model},device=cpu", "--tasks", "mine_forget,mine_retain"),
            *("--log_samples", "--output_path", results, "--gen_kwargs", "max_new_tokens=4"),
        ],
        check=True,
    )
    for command in (["gate", results], ["report", results, "--out", str(tmp_path / "report")]):
        with pytest.raises(SystemExit):  # a model that was never trained is not through the gate
            cli.main(command)
        said = capsys.readouterr()
        assert "mine" in said.out + said.err, said
