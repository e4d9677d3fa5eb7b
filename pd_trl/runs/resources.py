"""
Where the recipes and the card templates are.

They live at the top of the repository (`scripts/recipes`, `model_cards`), where people look for them, and inside the
package in a wheel (`pd_trl/recipes`, `pd_trl/model_cards`).
"""

from pathlib import Path

from ..errors import InputError
from ..text.names import did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
_RECIPE_SUFFIXES = (".yaml", ".yml")


def _folder(name_in_wheel: str, path_in_checkout: str) -> Path:
    """The wheel's folder if it is there, else the checkout's; an error that names both if neither is."""
    in_wheel, in_checkout = _PACKAGE / name_in_wheel, _PACKAGE.parent / path_in_checkout
    for folder in (in_wheel, in_checkout):
        if folder.is_dir():
            return folder
    raise InputError(
        f"The folder of pd_trl's {name_in_wheel.replace('_', ' ')} was expected at {in_wheel} or {in_checkout}, and "
        "neither is there. The installation is incomplete: install pd_trl again."
    )


def _find(name: str, files: list[Path], kind: str, suffixes: tuple[str, ...]) -> Path:
    """The file called `name`, with or without its suffix; an error with the closest names if there is none."""
    for file in files:
        if name in (file.name, *(file.name.removesuffix(suffix) for suffix in suffixes)):
            return file
    names = [file.name.removesuffix(suffixes[0]) for file in files]
    hint = did_you_mean(name, names, most=3, cutoff=0.4)
    raise InputError(f"There is no {kind} {name!r}.{hint} pd_trl ships: {', '.join(names) or 'none'}.")


def _recipes() -> list[Path]:
    folder = _folder("recipes", "scripts/recipes")
    return sorted(file for file in folder.iterdir() if file.suffix in _RECIPE_SUFFIXES)


def list_recipes() -> list[str]:
    """
    The names of the recipes that pd_trl ships.

    Returns:
        `list[str]`:
            Names without the suffix, sorted, e.g. `["own-columns", "quickstart"]`.
    """
    return [file.stem for file in _recipes()]


def recipe_path(name: str) -> Path:
    """
    The file of a recipe.

    Args:
        name (`str`):
            Name of the recipe, with or without `.yaml`, e.g. `"quickstart"`.

    Returns:
        `Path`:
            Absolute path of the YAML file.

    Raises:
        InputError: If pd_trl ships no such recipe; the message has the closest names.
    """
    return _find(name, _recipes(), "recipe", _RECIPE_SUFFIXES)


def template_path(name: str) -> Path:
    """
    The file of a card template.

    Args:
        name (`str`):
            Name of the template, with or without its suffixes, e.g. `"dataset_card.md.jinja"`.

    Returns:
        `Path`:
            Absolute path of the jinja file.

    Raises:
        InputError: If pd_trl ships no such template; the message has the closest names.
    """
    files = sorted(file for file in _folder("model_cards", "model_cards").iterdir() if file.is_file())
    suffixes = tuple(dict.fromkeys("".join(file.suffixes) for file in files)) or (".md",)
    return _find(name, files, "card template", suffixes)
