"""The Hub's rules for the metadata of a card, as far as they are documented."""

import re
from typing import Any

from .model import as_list

LICENSES = set(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 afl-3.0 artistic-2.0 bsl-1.0 "
    "bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 "
    "cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 "
    "etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research lppl-1.3c ms-pl mpl-2.0 "
    "odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license "
    "fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other".split()
)
SIZES = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B", "10B<n<100B",
         "100B<n<1T", "n>1T"]  # fmt: skip
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
_REPO = re.compile(r"[\w.\-]+(/[\w.\-]+)?")


def metadata_errors(data: dict[str, Any], repo_type: str) -> list[str]:
    """What is wrong with the metadata of a card."""
    errors = []
    for value in as_list(data.get("license")):
        if value not in LICENSES:
            errors.append(f'"license" must be one of the known identifiers, not {value!r}')
    for value in as_list(data.get("language")):
        if not isinstance(value, str) or not re.fullmatch(r"[a-z]{2,3}(-[\w-]+)?|code|multilingual", value):
            errors.append(f'"language" must only contain ISO 639 codes, not {value!r}')
    for value in as_list(data.get("tags")):
        if not isinstance(value, str) or not value or len(value) > 96:
            errors.append(f'"tags" must be short strings, not {value!r}')
    for key in ("datasets", "base_model"):
        for value in as_list(data.get(key)):
            if not isinstance(value, str) or not _REPO.fullmatch(value):
                errors.append(f'"{key}" with value {value!r} is not valid. Use a model or dataset id from the Hub')
    if (
        data.get("license") == "other"
        and "license_name" in data
        and not re.fullmatch(r"[\w.\-]+", str(data["license_name"]))
    ):
        errors.append('"license_name" must be lower-case letters, digits, "-" and "."')
    errors += {"dataset": _dataset_errors, "model": _model_errors, "space": _space_errors}[repo_type](data)
    return errors


def _dataset_errors(data: dict[str, Any]) -> list[str]:
    errors = []
    configs = data.get("configs") or []
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return ['"configs" must be a list of mappings']
    if sum(bool(config.get("default")) for config in configs) > 1:
        errors.append("only one config can be the default")
    names = [config.get("config_name") for config in configs]
    if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        errors.append("every config needs a name of its own")
    for value in as_list(data.get("size_categories")):
        if value not in SIZES:
            errors.append(f'"size_categories" must be one of {SIZES}, not {value!r}')
    if data.get("pretty_name") is not None and not isinstance(data["pretty_name"], str):
        errors.append('"pretty_name" must be a string')
    return errors


def _model_errors(data: dict[str, Any]) -> list[str]:
    errors = []
    index = data.get("model-index") or []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    for model in index:
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            errors.append('"model-index[0].name" is required')
            continue
        for result in model.get("results") or []:
            if not (result.get("task") or {}).get("type"):
                errors.append('"model-index[0].results[0].task.type" is required')
            if not {"name", "type"} <= set(result.get("dataset") or {}):
                errors.append('"model-index[0].results[0].dataset" needs a name and a type')
            for metric in result.get("metrics") or [{}]:
                if "type" not in metric or "value" not in metric:
                    errors.append('"model-index[0].results[0].metrics[0]" needs a type and a value')
    for key in ("library_name", "pipeline_tag"):
        if data.get(key) is not None and not isinstance(data[key], str):
            errors.append(f'"{key}" must be a string')
    return errors


def _space_errors(data: dict[str, Any]) -> list[str]:
    errors = []
    if data.get("sdk") not in ("static", "gradio", "docker", "streamlit"):
        errors.append('"sdk" must be one of [static, gradio, docker, streamlit]')
    for key in ("colorFrom", "colorTo"):
        if key in data and data[key] not in COLORS:
            errors.append(f'"{key}" must be one of {sorted(COLORS)}')
    if len(str(data.get("short_description", ""))) > 60:
        errors.append('"short_description" must be at most 60 characters')
    return errors
