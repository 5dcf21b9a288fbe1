"""README and docs: every link leads somewhere, every command parses, and pages made from code are up to date."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remem_tasks import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", head).lower()).strip().replace(" ", "-") for head in heads
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    dead = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            dead.append(target)
    assert dead == []


def commands(page: Path) -> list[str]:
    """The commands in a page's indented blocks and shell fences, continuation lines joined."""
    found, line = [], ""
    for text in page.read_text(encoding="utf-8").splitlines():
        if not line and not text.startswith(("    ", "\t")):
            continue
        line += " " + text.strip()
        if line.endswith("\\"):
            line = line[:-1]
            continue
        found.append(line.strip())
        line = ""
    words = r"(?:\w+=\S+ )*(?:\S*bin/)?(?:remem|lmms_eval|lm_eval|python -m lmms_eval|torchrun \S+ \d+ -m lmms_eval)\b "
    found = [
        part.strip() for one in found for part in re.split(r" && |; | \| ", re.sub(r"\s+#\s.*$", "", one))
    ]
    return [one for one in found if re.match(words, one)]


CASES = [(page, command) for page in PAGES for command in commands(page)]
SKETCH = re.compile(r"…|\.\.\.|\[|\bCOMMAND\b|\bARGUMENTS\b|\$\w")
"""What stands for anything: such a line is no command."""


def test_commands_were_found():
    assert len(CASES) > 40 and any(name_of(page) == "README.md" for page, _ in CASES)


@pytest.mark.parametrize(
    "page, command", CASES, ids=lambda one: one if isinstance(one, str) else name_of(one)
)
def test_every_command_has_flags_that_exist(page, command):
    if SKETCH.search(command):
        pytest.skip("a sketch of a command")
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    while Path(words[0]).name in ("python", "torchrun"):
        words = words[words.index("-m") + 1 :]
    program, arguments = Path(words[0]).name, words[1:]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            if program == "lmms_eval":
                from lmms_eval.__main__ import parse_eval_args

                from remem_tasks.benchmarks.scoring_config import flags_parser

                rest = flags_parser().parse_known_args(arguments)[1]
                before, sys.argv = sys.argv, ["lmms_eval", *(one for one in rest if one != "--long_table")]
                try:
                    parse_eval_args()
                finally:
                    sys.argv = before
            elif arguments[0] == "train":
                from remem_tasks.training import launch_command
                from unlearning.arguments import parse

                script = launch_command(arguments[1:])
                rest = script[next(i for i, word in enumerate(script) if word.endswith("train.py")) + 1 :]
                if "--accelerate" in arguments and "gpu" in arguments:
                    rest += ["--use_cpu", "true"]
                parse(rest)
            elif program == "lm_eval" or arguments[0] == "lm_eval":
                from lm_eval._cli import HarnessCLI

                before, sys.argv = sys.argv, ["lm_eval", *arguments[arguments[0] == "lm_eval" :]]
                try:
                    HarnessCLI().parse_args()
                finally:
                    sys.argv = before
            else:
                cli.commands_parser().parse_args(arguments)
        except SystemExit as stop:
            if stop.code not in (0, None):
                pytest.fail(said.getvalue()[-300:])


def test_pages_made_from_code_are_up_to_date(monkeypatch):
    """Without the benchmark of the template, which only tests know."""
    monkeypatch.setattr(cli.data, "NAMES", tuple(name for name in cli.data.NAMES if name != "mine"))
    spec = importlib.util.spec_from_file_location("docs_cli", ROOT / "docs" / "cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.page()


def test_the_readme_is_short_and_names_every_command_line():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    from unlearning.experiments.sweep.plan import FORGET_METHODS

    assert f"[{len(FORGET_METHODS)} forget methods]" in text
    assert text.count("<!-- demo table: begin -->") == text.count("<!-- demo table: end -->") == 1


def test_every_page_is_reached_from_the_index():
    seen, todo = set(), [ROOT / "docs" / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                todo.append((page.parent / target.partition("#")[0]).resolve())
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert pages <= seen, sorted(map(str, pages - seen))


def test_every_page_is_in_the_site():
    nav = (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    pages = {page for page in pages if not page.startswith(("benchmark_template/", "upstream/lmms_eval/"))}
    assert pages == set(re.findall(r"[\w/-]+\.md", nav))


TRIED: dict[str, tuple[str, ...]] = {
    r"remem data check \[SOURCE\]": (r"\[SOURCE\]", "runs/demo/data"),
    r"remem data check (runs/demo/data|data)$": (),
    r"remem data sheet ": (r"\[SOURCE\]", "runs/demo/data"),
    r"remem data pull \[SOURCE\]": (r"\[SOURCE\](.*)DIR", r"runs/demo/data\1pulled"),
    r"remem gate ": (r"results(/\w+)?( --forget forget)?$", "results/memorised"),
    r"remem report (?!results/\*|.*--attacks)": (r"START|original", "memorised"),
    r"remem push ": (r"$", " --dry-run"),
}
"""The commands that are run below, with what is exchanged in each: the rest takes minutes, GPUs or a Hub."""
LEFT = {
    r"(\S+=\S+ )?lmms_eval |.*python -m lmms_eval |torchrun ": "scoring: README's are run below, others by tests/harness",
    r"lm_eval |remem lm_eval ": "its own tests: tests/harness/test_lm_eval.py",
    r"remem data probe ": "it trains networks for minutes: tests/audit/test_probe.py",
    r"remem judge ": "an endpoint of one's own: tests/report/test_judge.py runs one",
    r"remem train ": "README's is run below; each method and flag by tests/unlearning",
    r"remem report results/\*": "README's, which is run below",
    r"remem report .*--attacks": "wants a start that memorised, and was attacked: tests/report/test_attacked.py",
    r"(\S+/)?remem (base|demo|attack|sweep|study|stream|reproduce)": "minutes; at small size by tests/experiments and tests/tiny",
    r"remem forge ": "demo's size or larger; small ones by tests/benchmarks",
    r"remem diagnose ": "scores three times; tests/report/test_diagnose.py",
    r"remem leaderboard ": "wants a start that memorised: tests/report/test_leaderboard.py",
    r"remem merge ": "needs an adapter: tests/test_cli.py",
    r"remem sae ": "minutes; at small size by tests/unlearning/test_beside.py",
    r"remem data (push|pull herbwood27)|.*NAMESPACE/NAME": "needs a Hub: tests/audit/test_publish.py, tests/data/test_hub.py",
    r"remem data make ": "needs photographs: tests/benchmarks/remem/test_make.py",
    r"remem cache ": "clears the reader's own cache: tests/engine/test_cache.py",
    r"remem data check \S+$": "of a data set that the page has just had made",
    r"(remem|lmms_eval) (COMMAND|--help|ARGUMENTS|\S+$|…)": "the name of a command in a sentence",
}
"""Why the others are not."""


def kinds(command: str) -> list[str]:
    return [
        *(pattern for pattern in TRIED if re.match(pattern, command)),
        *(pattern for pattern in LEFT if re.match(pattern, command)),
    ]


DOCUMENTED = [(page, command) for page, command in CASES if page.name != "cli.md"]


def test_every_command_is_tried_or_has_a_reason_why_not():
    assert [command for _, command in DOCUMENTED if not kinds(command)] == []
    used = {kinds(command)[0] for _, command in DOCUMENTED}
    assert [pattern for pattern in TRIED if pattern not in used] == []


@pytest.fixture(scope="module")
def shell(tmp_path_factory, quick_demo):
    """(folder with runs/demo, a copy of the quick demo, environment in which `remem` and `lmms_eval` are these)."""
    folder = tmp_path_factory.mktemp("newcomer")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REMEM_CACHE": str(folder / "cache"),
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    (folder / "bin").mkdir()
    for name, start in (("remem", "main"), ("lmms_eval", "lmms_eval")):
        script = folder / "bin" / name
        script.write_text(f"#!{sys.executable}\nfrom remem_tasks.cli import {start}\n{start}()\n")
        script.chmod(0o755)
    shutil.copytree(quick_demo, folder / "runs" / "demo")
    return folder, environment


@pytest.mark.slow
def test_the_readmes_commands_work_in_sequence(shell):
    """As printed, but for the sizes: the demo is the quick one, whose start no gate would pass."""
    folder, environment = shell
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    jobs = text[text.index("## Three jobs") : text.index("## What is in it")]
    lines = [line[4:] for line in jobs.splitlines() if line.startswith("    ")]
    script = "\n".join(["set -e", *lines])
    small = {r"--gate_results \S+": "--no_gate", r"--max_steps \d+": "--max_steps 1"}
    for printed, tried in small.items():
        script, found = re.subn(printed, tried, script)
        assert found == 1, printed
    # (What learned nothing may say one thing to all, which is status 3.)
    script = re.sub(r"^(lmms_eval(?:[^\n]*\\\n)*[^\n]*)$", r"\1 || [ $? -eq 3 ]", script, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (folder / "report" / "report.html").is_file() and "remem report results/gold" in done.stdout


@pytest.mark.slow
def test_the_commands_of_seconds_work(shell, tmp_path, monkeypatch, capfd):
    """Each once, as the page has it but for TRIED, in a folder whose `results` and `data` are the quick demo's."""
    folder, _ = shell
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(folder / "runs" / "demo")
    (tmp_path / "results").symlink_to(folder / "runs" / "demo" / "results")
    shutil.copytree(folder / "runs" / "demo" / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMEM_DATA", "runs/demo/data")
    monkeypatch.setenv("REMEM_CACHE", str(tmp_path / "cache"))
    failed = []
    for command in dict.fromkeys(command for _, command in DOCUMENTED):
        (pattern, *_) = kinds(command)
        if pattern not in TRIED or SKETCH.search(command.replace("[SOURCE]", "")):
            continue
        if exchange := TRIED[pattern]:
            command = re.sub(exchange[0], exchange[1], command, count=1)
        with pytest.raises(SystemExit) as ended:
            cli.main(shlex.split(command)[1:])
        said = capfd.readouterr()
        # The quick demo's models know nothing: its gate says so, or that its rows are too few.
        well = (0, 1, 3) if command.startswith("remem gate") else (0, None)
        if ended.value.code not in well or "Traceback" in said.err:
            failed.append((command, ended.value.code, said.err[-400:]))
    assert failed == []
