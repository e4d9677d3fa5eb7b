import ast
import importlib
import json
import re
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

# Top-level module or package, or a module of one that lies lower -> layer. An import may point to the same layer or a lower one,
# never up.
LAYERS = {
    # L0: maths and what everything needs; numpy only
    "_version": 0,
    "divergence": 0,
    "errors": 0,
    "length": 0,
    "runs.secrets": 0,
    "selection": 0,
    # L1: data and text
    "adapters": 1,
    "artifacts": 1,
    "cards": 1,
    "checkpoints": 1,
    "data": 1,
    "gaps": 1,
    "hub": 1,
    "plots": 1,
    "provenance": 1,
    "report_text": 1,
    "resources": 1,
    "reward_metrics": 1,
    "row_log": 1,
    "runs": 1,
    "results": 1,
    # L2: models
    "aspect_rewards": 2,
    "dpo_config": 2,
    "dpo_trainer": 2,
    "generation": 2,
    "metrics": 2,
    "model_inputs": 2,
    "multi_aspect": 2,
    "packed_pairs": 2,
    "prefix_sharing": 2,
    "reward_config": 2,
    "reward_evaluation": 2,
    "reward_rows": 2,
    "reward_results": 2,
    "reward_sidecar": 2,
    "reward_trainer": 2,
    "scoring": 2,
    "model_push": 2,
    "trainer_push": 2,
    "tree_batches": 2,
    "training_facts": 2,
    "trainer_utils": 2,
    # L3: composition
    "bench": 3,
    "decision": 3,
    "evaluation": 3,
    "filter": 3,
    "filter_models": 3,
    "votes": 3,
    "html_report": 3,
    "out_of_core": 3,
    "plan": 3,
    "proxies": 3,
    "publishing": 3,
    "recipe": 3,
    "recipe_evaluation": 3,
    "recipe_rules": 3,
    "report": 3,
    "simulation": 3,
    "stages": 3,
    # L4: the command line
    "__main__": 4,
    "cli": 4,
}
# What L0 may import from outside; torch is for the sampler.
L0_THIRD_PARTY = {"numpy", "torch"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, tree: ast.AST) -> set[str]:
    """Absolute dotted names of all that a file of the package imports, at the top or inside functions."""
    package = ["pd_trl", *path.relative_to(PACKAGE).parent.parts]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            if base == ["pd_trl"]:
                names.update(f"pd_trl.{alias.name}" for alias in node.names)
            else:
                names.add(".".join(base))
    return names


def layered(name: str) -> str:
    """The entry of `LAYERS` that a module belongs to."""
    two = ".".join(name.split(".")[:2])
    return two if two in LAYERS else name.split(".")[0]


def layer_violations(path: Path, source: str) -> list[str]:
    name = module_name(path)
    own = layered(name)
    if name == "":  # pd_trl/__init__.py names everything, lazily
        return []
    if own not in LAYERS:
        return [f"{name} has no layer: add {own!r} to LAYERS in tests/test_package.py, at the layer it belongs to"]
    violations = []
    for imported in sorted(imported_modules(path, ast.parse(source))):
        first, _, rest = imported.partition(".")
        if first == "pd_trl":
            target = layered(rest)
            if target in pd_trl._MODULE_OF or not target:
                violations.append(f"{name} imports {imported} through pd_trl/__init__.py: import its module instead")
            elif target not in LAYERS and target != "__version__":
                violations.append(f"{name} imports {imported}, which has no layer: add it to LAYERS")
            elif LAYERS.get(target, 0) > LAYERS[own]:
                violations.append(
                    f"{name} (L{LAYERS[own]}) imports {imported} (L{LAYERS[target]}): imports point down"
                )
        elif LAYERS[own] == 0 and first not in L0_THIRD_PARTY | sys.stdlib_module_names:
            violations.append(f"{name} (L0) imports {imported}: L0 needs only {sorted(L0_THIRD_PARTY)}")
    return violations


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: module_name(path) or "pd_trl")
def test_imports_point_only_downward(path):
    assert layer_violations(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "file, source, message",
    [
        ("divergence.py", "from .filter import PDFilter", "imports point down"),
        ("divergence.py", "import datasets", "L0 needs only"),
        ("dpo_trainer.py", "def f():\n    from pd_trl import filter", "imports point down"),
        ("data/loading.py", "from ..scoring import score_pairs", "imports point down"),
        ("data/loading.py", "import pd_trl.cli.main", "imports point down"),
        ("scoring/loop.py", "from .. import load_pairs", "import its module instead"),
        ("scoring/loop.py", "from ..brand_new import f", "has no layer"),
        ("brand_new/loop.py", "", "has no layer"),
    ],
)
def test_layer_check_sees_violations(file, source, message):
    violations = layer_violations(PACKAGE / file, source)
    assert len(violations) == 1 and message in violations[0]


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
        assert value.__name__ == name
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
