"""README and docs: every link leads somewhere, every command parses, and pages made from code are up to date."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
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
    while words[0] in ("python", "torchrun"):
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
                from unlearning.config import parse

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
                cli._parser().parse_args(arguments)
        except SystemExit as stop:
            if stop.code not in (0, None):
                pytest.fail(said.getvalue()[-300:])


def test_pages_made_from_code_are_up_to_date(monkeypatch):
    """Without the benchmark of the template, which only tests know."""
    monkeypatch.setattr(cli, "NAMES", tuple(name for name in cli.NAMES if name != "mine"))
    spec = importlib.util.spec_from_file_location("docs_cli", ROOT / "docs" / "cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.page()


def test_the_readme_is_short_and_names_every_command_line():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
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
    pages = {page for page in pages if not page.startswith("benchmark_template/")}
    assert pages == set(re.findall(r"[\w/-]+\.md", nav))


@pytest.mark.slow
def test_the_readmes_commands_work_in_sequence(tmp_path):
    """As printed, but for the sizes: the demo is the quick one, whose start no gate would pass."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REMEM_CACHE": str(tmp_path / "cache"),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    (tmp_path / "bin").mkdir()
    for name, start in (("remem", "main"), ("lmms_eval", "lmms_eval")):
        script = tmp_path / "bin" / name
        script.write_text(f"#!{sys.executable}\nfrom remem_tasks.cli import {start}\n{start}()\n")
        script.chmod(0o755)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    jobs = text[text.index("## Three jobs") : text.index("## What is in it")]
    lines = [line[4:] for line in jobs.splitlines() if line.startswith("    ")]
    shell = "\n".join(["set -e", "remem demo --quick --out runs/demo", *lines])
    small = {r"--gate_results \S+": "--no_gate", r"--max_steps \d+": "--max_steps 1"}
    for printed, tried in small.items():
        shell, found = re.subn(printed, tried, shell)
        assert found == 1, printed
    # (What learned nothing may say one thing to all, which is status 3.)
    shell = re.sub(r"^(lmms_eval(?:[^\n]*\\\n)*[^\n]*)$", r"\1 || [ $? -eq 3 ]", shell, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert (tmp_path / "report" / "report.html").is_file() and "remem report results/gold" in done.stdout
