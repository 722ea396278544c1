"""Notebooks: each runs in the smoke profile; exercises, outputs and findings."""

import ast
import itertools
import json
import re
import sys

import nbformat
import pytest

from experiments import recorded
from experiments.answers import PLACE
from sbert_lab._utils import committed_results, project_root
from tools import notebooks
from tools.findings import BEGIN, END, update_findings
from tools.notebook_style import lint, notebook_paths
from tools.notebooks import NotebookFailed, main, run


@pytest.mark.notebook
@pytest.mark.parametrize("path", notebook_paths(), ids=lambda path: path.stem)
def test_smoke(path, tmp_path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setenv("SBERT_LAB_CACHE", str(tmp_path / "cache"))
    record, page = run(path, "smoke", out=tmp_path)
    assert path.read_bytes() == before, "a run must not touch the notebook"
    assert {c["verdict"] for c in record["claims"].values()} == {"not tested"}
    assert "<h1" in page.read_text()
    assert "No description has been provided" not in page.read_text()


def make(tmp_path, *cells):
    made = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook = nbformat.v4.new_notebook(cells=made)
    path = tmp_path / "99_test.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.notebook
def test_what_stops_a_run_is_said(tmp_path):
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        run(make(tmp_path, "1 / 0"), "smoke", out=tmp_path)
    with pytest.raises(NotebookFailed, match=r"exp\.finish"):
        run(make(tmp_path, "1 + 1"), "smoke", out=tmp_path)


RECORDED = """
from sbert_lab._utils import write_json
from experiments import record
exp = record.start('99_test', uses=['icd10cm'])
exp.attach('more.json', lambda path: write_json(path, {}))
exp._started -= 3_600
exp.finish();
"""


@pytest.mark.notebook
def test_an_update_writes_outputs_and_record_back(tmp_path, monkeypatch):
    """In this very Python; and a run over its budget is a line of the report."""
    kept = tmp_path / "committed"
    monkeypatch.setattr(notebooks, "committed_results", lambda profile: kept / profile)
    path = make(tmp_path, "import sys; print(sys.executable)", RECORDED)
    assert lint(path)
    record, _ = run(path, "smoke", update=True, out=tmp_path / "out")
    assert "OVER BUDGET" in notebooks.report(record)[0]
    assert (record["profile"], len(record["sources"]["icd10cm"])) == ("smoke", 64)
    assert {p.name for p in kept.rglob("*.json")} == {"99_test.json", "more.json"}
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["outputs"][0]["text"] == [sys.executable + "\n"]
    assert notebooks.disagreements(record) == []
    record["claims"]["new"] = {"machine": False, "verdict": "holds"}
    (kept / "smoke" / "99_test.json").write_text(json.dumps(record))
    record["claims"] = {}
    assert notebooks.disagreements(record) == ["claim new: holds is now no longer made"]


def test_notebooks_are_chosen_by_number():
    assert notebooks.chosen(["4"]) == notebooks.chosen(["04"]) == [notebook_paths()[3]]
    assert notebooks.chosen() == notebook_paths()


def test_one_that_fails_does_not_stop_the_rest(tmp_path, monkeypatch, capsys):
    def failing(path, profile, **_):
        if path.stem.startswith("04"):
            raise NotebookFailed("an error")
        record = committed_results(profile) / f"{path.stem}.json"
        return json.loads(record.read_bytes()), path

    monkeypatch.setattr(notebooks, "run", failing)
    assert main(["04", "05", "--verify"]) == 1
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines[1::2] == ["  FAILED: an error", "  agrees with its record"]


def test_a_mistake_is_told(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["77"])
    assert "no notebook 77; there are 01_why" in capsys.readouterr().err
    monkeypatch.setenv("SBERT_LAB_PROFILE", "other")
    with pytest.raises(SystemExit):
        main(["04"])
    assert "SBERT_LAB_PROFILE='other': choose one of" in capsys.readouterr().err


# What is committed


def test_committed_outputs_are_clean():
    assert [p for path in notebook_paths() for p in lint(path)] == []


def test_bad_outputs_are_seen(tmp_path):
    path = tmp_path / "01_x.ipynb"
    notebook = json.loads(notebook_paths()[0].read_text())
    first = next(c for c in notebook["cells"] if c["cell_type"] == "code")
    for output, message in (
        ({"output_type": "error"}, "its output is an error"),
        ({"output_type": "stream", "text": " 43%|####"}, "3%|"),
        ({"output_type": "stream", "text": "in /home/me/x"}, "/home/me"),
    ):
        first["outputs"] = [output]
        path.write_text(json.dumps(notebook))
        assert message in " ".join(lint(path))
    first["outputs"], first["execution_count"] = [], 7
    notebook["metadata"]["much"] = "x" * 1_000_000
    path.write_text(json.dumps(notebook))
    large, disorder = lint(path)
    assert "at most 1000" in large
    assert "one run from top to bottom" in disorder


def test_the_style_of_a_notebook_that_has_an_answer(tmp_path):
    text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    long = "\n".join(["def f():", *["    x = 1"] * 8])
    cells = [text("**By hand**"), code(long), text("# It is so [@miller1995]")]
    cells += [
        code(f"%pip install x\n{long}"),
        code("class C: pass"),
        code("x=1\n" * 21),
    ]
    cells += [text("word " * 100), code("exp.hypothesis(1)\n" * 4)]
    cells += [code(str(n)) for n in range(32)]
    path = tmp_path / "99_test.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    order = lint(path)  # of old style: only that it was not run is said
    cells.append(code("answer('99', 'so')"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    found = [line.removeprefix("99_test.ipynb: ") for line in lint(path)[len(order) :]]
    assert len(order) == 1
    assert found == [
        "41 cells; at most 40",
        "cell 3 has '[@m'",
        "cell 4 has '%pip'",
        "cell 4 defines f, which is a class or has more than eight lines",
        "cell 5 defines C, which is a class or has more than eight lines",
        "cell 6 has more than 20 lines, or one of more than 79 columns",
        "cell 7 has 100 words or more",
        "4 claims; at most 3",
    ]


def answers():
    """Yield the notebook, its number and the template of every answer."""
    for path in notebook_paths():
        for cell in json.loads(path.read_text())["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "answer(" in source:
                for call in ast.walk(ast.parse(source)):
                    if (
                        isinstance(call, ast.Call)
                        and ast.unparse(call.func) == "answer"
                    ):
                        yield path, *map(ast.literal_eval, call.args)


def typed(template):
    """Return the numbers of a template that are not of a name, as in nDCG@10."""
    words = re.split(r"[\s()]+", PLACE.sub("", template))
    return [word for word in words if re.match(r"[^A-Za-z]*\d", word)]


def test_numbers_of_answers_are_those_of_the_record():
    assert typed("{a:.2f} of all-MiniLM-L6-v2 and BERT-base in nDCG@10 {b:+}") == []
    assert typed("{a} in 3 hours (-0.5), 95%") == ["3", "-0.5", "95%"]
    for path, number, template in answers():
        assert path.name[:2] == number
        assert typed(template) == [], path
        assert {key for key, _ in PLACE.findall(template)} <= recorded(number).keys()


def test_findings_show_every_claim(tmp_path):
    text = (project_root() / "FINDINGS.md").read_text(encoding="utf-8")
    copy = tmp_path / "FINDINGS.md"
    copy.write_text(text, encoding="utf-8")
    assert not update_findings(copy), "run `python -m tools.findings`"
    copy.write_text(f"A\n{BEGIN}\nold\n{END}\nB\n")
    assert update_findings(copy)
    made = copy.read_text().splitlines()
    assert (made[0], made[-1], "old" in made) == ("A", "B", False)
    files = sorted(committed_results("laptop").glob("[0-9]*.json"))
    records = [json.loads(path.read_bytes()) for path in files]
    claims = [c for record in records for c in record["claims"].values()]
    assert len(made) > len(claims) >= 3 * len(files) > 20
    rows = [row for row in made if row.startswith("| ") and row.count("|") >= 4]
    rows = [row for row in rows if not row.startswith(("| claim", "| notebook", "| 0"))]
    for claim, row in zip(claims, rows, strict=True):
        cells = re.split(r"(?<!\\)\|", row)
        assert len(cells) == 5, "a bar in the text ends its cell"
        assert cells[1].strip().replace("\\|", "|") == claim["statement"]
        assert cells[3].strip().startswith(claim["verdict"])
    for path in notebook_paths():
        question = json.loads(path.read_bytes())["cells"][0]["source"][0].strip("# \n")
        assert f"## [{question}](notebooks/{path.name})" in made


# Exercises

WRONG = (AssertionError, AttributeError, LookupError, TypeError, ValueError)


def exercises():
    """Yield the imports, the stub's cell and the solution of every exercise."""
    for path in notebook_paths():
        cells = json.loads(path.read_text())["cells"]
        sources = ["".join(cell["source"]) for cell in cells]
        code = "\n".join(
            source
            for cell, source in zip(cells, sources, strict=True)
            if cell["cell_type"] == "code"
        )
        kinds = ast.Import, ast.ImportFrom
        imports = [n for n in ast.parse(code).body if isinstance(n, kinds)]
        for before, source in itertools.pairwise(sources):
            if re.match(r"def \w+\(.*\): \.\.\.\n", source):
                name = source[4 : source.index("(")]
                yield pytest.param(imports, before, source, id=f"{path.stem}-{name}")


def solution(text, stub):
    folded = text[text.index("<summary>Solution</summary>") :]
    whole = re.search(r"```python\n(.*?)```", folded, re.DOTALL)
    if whole:
        return whole.group(1)
    line = re.search(r"`(return [^`]+)`", folded.replace("\n", " ")).group(1)
    return f"{stub.removesuffix(' ...')}\n    {line}\n"


@pytest.mark.parametrize(("imports", "text", "source"), list(exercises()))
def test_an_exercise_takes_its_solution_and_no_other(imports, text, source):
    stub, check = source.split("\n", 1)
    head = ast.unparse(ast.Module(imports, []))
    head += "\nfrom types import SimpleNamespace as Box"
    head += "\ntoy = Box(task=None, first=np.zeros((1, 6)))"
    run_it = lambda answer: exec(f"{head}\n{answer}\n{check}", {})  # noqa: E731
    run_it(stub)  # nothing is checked yet
    run_it(solution(text, stub))
    for wrong in ("0.123", "np.ones((5, 5))"):
        with pytest.raises(WRONG):
            run_it(f"{stub.removesuffix(' ...')}\n    return {wrong}")


def test_there_are_exercises_in_every_notebook():
    found = [parameters.id[:2] for parameters in exercises()]
    assert found == [f"{n:02}" for n in range(1, 10) for _ in range(3)]
