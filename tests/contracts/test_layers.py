"""The import graph: no circle, no arrow up, and other packages' internals behind their fences."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# From the ground up; a module imports its own layer and those before it. A longer name beats a shorter one. A single
# file of remem_tasks/ that is not named lies on the ground.
LAYERS = [
    ["remem_tasks", "remem_tasks.errors", "remem_tasks.files", "remem_tasks.whitebox"],
    ["remem_tasks.metrics", "remem_tasks.binding", "remem_tasks.checkpoints"],
    ["remem_tasks.data"],
    ["remem_tasks.forge", "remem_tasks.tiny"],
    ["remem_tasks.benchmarks", "remem_tasks.audit"],
    ["remem_tasks.engine"],
    ["remem_tasks.harness"],
    ["remem_tasks.report", "remem_tasks.render", "remem_tasks.evaluate"],
    ["remem_tasks.attacks", "remem_tasks.training", "remem_tasks.preloaded", "remem_tasks.libraries"],
    ["unlearning"],
    ["unlearning.experiments"],
    [
        "remem_tasks.cli",
        *("remem_tasks.__main__", "remem_tasks.api"),
    ],
]

# Who may name lmms-eval, and the insides of transformers.
LMMS_EVAL = {"remem_tasks.harness"}
INSIDES = {"transformers.cache_utils", "transformers.integrations", "transformers.modeling_utils"}
FENCE = "remem_tasks.engine.transformers_seam"


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages."""
    found = {}
    for root in ("remem_tasks", "unlearning"):
        for file in sorted((ROOT / root).rglob("*.py")):
            found[".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = file
    return found


@cache
def imports(module: str, lazy: bool = True) -> frozenset[str]:
    """What a module imports, by full names; `lazy`: also inside functions. What is for type checkers alone is left out."""
    known, found = modules(), set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and child.module:
                names = [f"{child.module}.{one.name}" for one in child.names]
                found.update(name if name in known else child.module for name in names)
            elif isinstance(child, ast.Import):
                found.update(one.name for one in child.names)
            elif lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                visit(child)

    visit(ast.parse(known[module].read_text(encoding="utf-8")))
    return frozenset(found)


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def layer(module: str) -> int:
    """The place of a module's room."""
    rooms = [
        (len(room), place)
        for place, names in enumerate(LAYERS)
        for room in names
        if module == room or (room != "remem_tasks" and below(module, room))
    ]
    if not rooms and module.count(".") == 1 and modules()[module].name != "__init__.py":
        return 0
    assert rooms, f"{module} has no layer: put its room into LAYERS"
    return max(rooms)[1]


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2])


def test_no_module_imports_itself_over_others():
    """Of what is imported when a module is loaded; an import inside a function is no circle."""
    known = set(modules())
    graph = {module: (imports(module, lazy=False) & known) - {module} for module in known}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError("a circle: " + " -> ".join(error.args[1])) from None


def up() -> set[tuple[str, str]]:
    """The arrows up: from a module to a room above its own."""
    return {
        (module, room(target))
        for module in modules()
        for target in imports(module) & set(modules())
        if layer(target) > layer(module)
    }


def test_no_arrow_goes_up():
    assert not sorted(up()), "lower rooms must not know higher ones: move what is needed down"


def test_lmms_eval_is_named_by_the_harness_alone():
    named = {
        module
        for module in modules()
        if any(below(name, "lmms_eval") for name in imports(module))
        and not any(below(module, fence) for fence in LMMS_EVAL)
    }
    assert not sorted(named)


def test_the_insides_of_transformers_are_named_behind_one_fence_alone():
    named = {
        module
        for module in modules()
        if any(below(name, inside) for name in imports(module) for inside in INSIDES)
    }
    assert not sorted(named - {FENCE})


def test_the_walk_sees_what_is_there():
    assert {"remem_tasks.cli", "unlearning.train", "remem_tasks.metrics.text"} <= set(modules())
    assert "remem_tasks.harness.command" in imports("remem_tasks.cli")
    assert "remem_tasks.harness.command" not in imports("remem_tasks.cli", lazy=False)
