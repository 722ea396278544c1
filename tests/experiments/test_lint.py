"""The linter sees what it should, and only that."""

import base64
import copy
import json

import nbformat
import pytest

from sbert_lab._utils import notebook_paths
from sbert_lab.experiments import stamp as stamp_module
from sbert_lab.experiments.lint import lint
from sbert_lab.experiments.stamp import imported_modules, stamp

GOOD = notebook_paths()[0]


@pytest.fixture
def notebook():
    return json.loads(GOOD.read_text())


def problems(tmp_path, notebook):
    path = tmp_path / "04_x.ipynb"
    path.write_text(json.dumps(notebook))
    return " | ".join(lint(path))


def restamped(notebook, profile="laptop"):
    notebook["metadata"]["sbert_lab"] = stamp(notebook, profile)
    return notebook


def with_code(notebook, source):
    notebook["cells"][-1] = nbformat.v4.new_code_cell(source)
    return restamped(notebook)


def with_text(notebook, source):
    notebook["cells"][-1] = nbformat.v4.new_markdown_cell(source)
    return restamped(notebook)


def test_every_committed_notebook_is_clean():
    assert [p for path in notebook_paths() for p in lint(path)] == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Model:\n    pass", "classes belong in the package"),
        ("def f(x):\n" + "    x += 1\n" * 9, "move it to the package"),
        ("def mean_pooling(x):\n    return x", "import it"),
        ("!pip install faiss-cpu", "installs nothing"),
        ("import sys\nsys.path.append('..')", "changes no path"),
        ("%cd ..", "changes no path"),
        ("x = 1\n" * 31, "31 lines"),
        ("x = '" + "a" * 90 + "'", "longer than 79"),
        ("if profile.name == 'smoke':\n    n = 3", "do not branch on the profile"),
    ],
)
def test_bad_code(tmp_path, notebook, source, message):
    assert message in problems(tmp_path, with_code(notebook, source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("word " * 130, "130 words"),
        ("The score is 0.82.", "'0.82' is typed into prose"),
        ("It gains 12 % here.", "'12 %' is typed into prose"),
    ],
)
def test_bad_text(tmp_path, notebook, source, message):
    assert message in problems(tmp_path, with_text(notebook, source))


def test_published_values_and_code_may_stand_in_prose(tmp_path, notebook):
    text = "They report 77.12 [@reimers2019]. Use `rate=0.05` and section 3."
    assert problems(tmp_path, with_text(notebook, text)) == ""


def test_stale_outputs(tmp_path, notebook):
    changed = copy.deepcopy(notebook)
    for cell in changed["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = ["x = 1\n", *cell["source"]]
            break
    assert "older than its code" in problems(tmp_path, changed)
    for part in ("package", "constraints"):
        old = copy.deepcopy(notebook)
        old["metadata"]["sbert_lab"][part] = "0"
        assert f"older than its {part}" in problems(tmp_path, old)
    bare = copy.deepcopy(notebook)
    del bare["metadata"]["sbert_lab"]
    assert "no stamp" in problems(tmp_path, bare)
    smoke = restamped(copy.deepcopy(notebook), "smoke")
    assert "smoke run" in problems(tmp_path, smoke)


def test_outputs(tmp_path, notebook):
    def with_output(output):
        changed = copy.deepcopy(notebook)
        code = next(c for c in changed["cells"] if c["cell_type"] == "code")
        code["outputs"] = [output]
        return problems(tmp_path, changed)

    picture = {
        "output_type": "display_data",
        "data": {"image/png": base64.b64encode(b"x" * 10).decode()},
        "metadata": {},
    }
    assert "without alt text" in with_output(picture)
    picture["metadata"] = {"image/png": {"alt": "a chart"}}
    picture["data"]["image/png"] = base64.b64encode(b"x" * 200_000).decode()
    assert "150 KB" in with_output(picture)
    path = {"output_type": "stream", "name": "stdout", "text": "in /home/me/x"}
    assert "shows a path" in with_output(path)
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    assert "output is an error" in with_output(error)


@pytest.mark.parametrize(
    "left", ["<progress value='3'></progress>", " 42%|####  | 3/7"]
)
def test_progress_bars_do_not_stay(tmp_path, notebook, left):
    cell = next(c for c in notebook["cells"] if c.get("outputs"))
    cell["outputs"].append(
        {"output_type": "display_data", "data": {"text/html": left}, "metadata": {}}
    )
    assert "a progress bar was left" in problems(tmp_path, notebook)


def test_missing_section(tmp_path, notebook):
    notebook["cells"] = [
        c
        for c in notebook["cells"]
        if "## What this does not show" not in "".join(c["source"])
    ]
    assert "What this does not show" in problems(tmp_path, restamped(notebook))


def test_comments_and_docstrings_do_not_make_outputs_stale():
    canonical = stamp_module._canonical
    code = "def f(x):\n    return x + 1\n"
    same = 'def f(x):\n    """Say what."""\n    # why\n    return (x + 1)\n'
    assert canonical(code) == canonical(same)
    assert canonical(code) != canonical("def f(x):\n    return x + 2\n")


def test_stamp_follows_imports_to_the_bottom():
    names = {p.name for p in imported_modules(["from sbert_lab import VectorIndex"])}
    assert {"__init__.py", "search.py", "exact.py", "files.py"} <= names
    assert "lint.py" not in names
