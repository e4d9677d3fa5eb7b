import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pd_trl
from pd_trl.errors import InputError
from pd_trl.runs.resources import list_recipes, recipe_path, template_path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pd_trl"


# An import that each contract forbids: the file it is put into, the line, and what import-linter says.
UPWARD = [
    ("method/divergence.py", "from ..selection.filter import PDFilter", "method is not allowed to import pd_trl.selection"),
    ("runs/artifacts.py", "def late():\n    from ..data import load_pairs", "runs is not allowed to import pd_trl.data"),
    ("trainers/push.py", "from ..cards import model_card", "trainers is not allowed to import pd_trl.cards"),
    ("selection/gaps.py", "def late():\n    from ..trainers import arguments", "selection is not allowed to import pd_trl.trainers"),
    ("evaluation/outputs.py", "import pd_trl.pipeline.recipe", "evaluation is not allowed to import pd_trl.pipeline"),
    ("method/ranking.py", "import datasets", "method is not allowed to import datasets"),
]  # fmt: skip


def lint_imports(root: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_imports_point_only_downward():
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout


def test_contracts_see_upward_imports(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "pd_trl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line, _ in UPWARD:
        with (tmp_path / "pd_trl" / file).open("a") as module:
            module.write(f"\n\n{line}\n")
    checked = lint_imports(tmp_path)
    assert checked.returncode == 1
    assert [message for _, _, message in UPWARD if message not in checked.stdout] == []


def test_root_holds_nothing_else():
    modules = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert modules == {"__init__.py", "__main__.py", "_version.py", "errors.py", "py.typed"}


def test_files_of_the_map_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text.split("## To change X, open Y")[1].split("\n## ")[0].splitlines()
        if line.startswith("| ")
    ]
    files = [file for row in rows[2:] for file in re.findall(r"`([^`]+)`", row.split(" | ")[1])]
    assert len(rows) - 2 >= 20 and len(files) >= len(rows) - 2
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_map_of_the_house_names_every_package():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## The house")[1].split("\n## ")[0]
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert [name for name in sorted(packages) if f"`{name}`" not in text] == []


def loaded_after(statement: str) -> set[str]:
    """Top-level modules loaded in a fresh process after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return set(json.loads(result.stdout.splitlines()[-1]))


HEAVY = {"accelerate", "datasets", "numpy", "peft", "torch", "transformers", "trl"}


@pytest.mark.parametrize("statement", ["import pd_trl", "import pd_trl; dir(pd_trl)", "import pd_trl.runs.resources"])
def test_import_is_lazy(statement):
    assert not loaded_after(statement) & HEAVY


def test_maths_needs_only_numpy():
    loaded = loaded_after("from pd_trl import preference_divergence")
    assert "numpy" in loaded and not loaded & (HEAVY - {"numpy"})


def test_command_line_imports_nothing_heavy():
    assert not loaded_after("import pd_trl.cli.main") & (HEAVY - {"numpy"})


@pytest.mark.parametrize("name", pd_trl.__all__)
def test_public_name_resolves(name):
    value = getattr(pd_trl, name)
    assert value is getattr(pd_trl, name)
    if name != "__version__":
        assert value.__name__.rpartition(".")[2] == name
        assert value.__doc__


def test_lazy_table_type_checking_imports_and_all_agree():
    modules = pd_trl._MODULE_OF
    assert pd_trl.__all__ == sorted([*modules, "__version__"])
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == modules
    assert set(pd_trl.__all__) <= set(dir(pd_trl))


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'PDFliter'.*PDFilter"):
        _ = pd_trl.PDFliter


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", pd_trl.__version__)
    assert importlib.import_module("pd_trl._version").__version__ == pd_trl.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == pd_trl.__version__


def test_recipes_are_found_and_parse():
    names = list_recipes()
    assert "quickstart" in names
    for name in names:
        path = recipe_path(name)
        assert path == recipe_path(f"{name}.yaml") and path.is_absolute()
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path


def test_unknown_recipe_names_the_closest():
    with pytest.raises(InputError, match=r"no recipe 'quikstart'\. Did you mean 'quickstart'"):
        recipe_path("quikstart")


def test_templates_are_found():
    templates = sorted(path for path in (ROOT / "model_cards").iterdir() if path.is_file())
    assert templates
    for path in templates:
        assert template_path(path.name) == path
    with pytest.raises(InputError, match="no card template 'no-such-card'"):
        template_path("no-such-card")


def test_resources_of_a_wheel(tmp_path, monkeypatch):
    """In a wheel the files lie inside the package; without any, the error says that the installation is incomplete."""
    resources = importlib.import_module("pd_trl.runs.resources")
    package = tmp_path / "pd_trl"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    with pytest.raises(InputError, match="installation is incomplete"):
        list_recipes()
    (package / "recipes").mkdir(parents=True)
    (package / "recipes" / "llama-3.1-8b.yaml").touch()
    assert list_recipes() == ["llama-3.1-8b"]
    assert recipe_path("llama-3.1-8b") == package / "recipes" / "llama-3.1-8b.yaml"


@pytest.mark.parametrize(
    "name", ["gradient_checkpointing_enable", "gradient_checkpointing_disable", "past_key_values="]
)
def test_what_transformers_is_going_to_remove_is_called_nowhere(name):
    """The warning names transformers' own module, and TRL calls the first two: no filter of warnings tells who called."""
    callers = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if name in path.read_text()]
    assert not callers
