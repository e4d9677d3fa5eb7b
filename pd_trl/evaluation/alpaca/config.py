"""Configurations of alpaca_eval's annotators: found by name or folder, and checked before any request."""

import difflib
import os
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...safety.schema import parse_yaml
from .completions import DECODERS

OFFICIAL_CONFIG = "weighted_alpaca_eval_gpt4_turbo"
OFFICIAL_MODEL = "gpt-4-1106-preview"


def config_path(config: str | os.PathLike) -> Path:
    """
    File of an annotator: one of alpaca_eval's by name, or your own by folder or file.

    Raises:
        InputError: If there is none.
    """
    from alpaca_eval import constants

    folder = Path(constants.EVALUATORS_CONFIG_DIR)
    for path in (Path(config).expanduser(), folder / config):
        path = path / "configs.yaml" if path.is_dir() else path
        if path.is_file():
            return path.absolute()
    names = sorted(path.parent.name for path in folder.glob("*/configs.yaml"))
    close = difflib.get_close_matches(str(config), names, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise InputError(
        f"There is no annotator {str(config)!r}: give the name of one of alpaca_eval's ({len(names)}, such as {OFFICIAL_CONFIG}), "
        f"or a folder with a configs.yaml.{hint}"
    )


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """
    Annotators of a file by name.

    Raises:
        InputError: If it is not a configuration, or names an unknown decoder.
    """
    try:
        config = parse_yaml(path.read_text(encoding="utf-8"), f"The annotator's configuration {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The annotator's configuration {path} cannot be read: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(config, dict) or not config or not all(isinstance(entry, dict) for entry in config.values()):
        raise InputError(f"The annotator's configuration {path} must hold a mapping of name to settings.")
    for name, entry in config.items():
        decoder = decoder_of(entry)
        if decoder not in DECODERS:
            raise InputError(
                f"The annotator {name} in {path} names the decoder {decoder!r}; known ones are {', '.join(DECODERS)}."
            )
    return config


def decoder_of(entry: dict[str, Any]) -> str:
    """Name of an annotator's decoder."""
    return str(entry.get("fn_completions", "openai_completions"))


def read_template(entry: dict[str, Any], path: Path, name: str) -> str:
    """
    Template of an annotator's prompt: the text itself, or a file. Its path is relative to the parent of the
    configuration's folder, as in alpaca_eval, or to the folder.

    Raises:
        InputError: If there is no such file, or the template has no place for the instruction or the outputs.
    """
    given = str(entry.get("prompt_template", ""))
    places = ("{instruction}", "{output_1}", "{output_2}")
    template = given
    if not all(place in given for place in places) and 0 < len(given) < 500:
        files = [folder / given for folder in (path.parent.parent, path.parent)]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            raise InputError(
                f"The annotator {name} in {path} names the prompt {given!r}, but there is neither {files[0]} nor {files[1]}."
            )
        template = found.read_text(encoding="utf-8")
    missing = [place for place in places if place not in template]
    if missing:
        raise InputError(f"The prompt of the annotator {name} in {path} has no place for {', '.join(missing)}.")
    return template
