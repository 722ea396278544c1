"""The shape of the subpackage: it reads from top to bottom."""

import ast
from pathlib import Path

import tools.pretraining

PACKAGE = Path(tools.pretraining.__file__).parent

#: Each module may import the ones before it, never a later one.
ORDER = (
    "sources paragraphs readers corpus vocabulary static_vectors prepare batches "
    "masking plan model heldout checkpoints export training "
    "starts transfer advantage __main__"
).split()


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if parts[:2] == ["sbert_lab", "pretrain"]:
                yield from parts[2:3] or [alias.name for alias in node.names]


def test_imports_run_one_way():
    seen = 0
    for path in PACKAGE.glob("*.py"):
        for name in imports(path):
            seen += 1
            assert ORDER.index(name) < ORDER.index(path.stem), f"{path} imports {name}"
    assert seen > 30


def test_no_module_is_forgotten():
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", *ORDER}


def test_only_prepare_needs_the_notebooks_extra():
    heavy = {"scipy", "sklearn"}
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        found = {(module or "").split(".")[0] for module in modules} & heavy
        assert not found or path.stem == "static_vectors"
