"""What a judge on this machine is made of."""

from pathlib import Path

from ...runs.artifacts import digest_of, read_json
from ...runs.model_identity import model_key


def judge_digest(judge: str | None) -> dict[str, str]:
    """
    A digest of a judge's weights, world, or configuration and prompt, as `{"judge": …}`: a result of others is not the same.
    Empty for judges elsewhere, and for alpaca_eval's own annotators, which their name says.
    """
    kind, colon, value = str(judge or "").partition(":")
    if kind == "reward":
        from ...hub import local_model_folder
        from ...models.named import split_output

        return {"judge": model_key(local_model_folder(split_output(value)[0], what="judge"))}
    if kind == "gold":
        path = Path(value).expanduser() / "world.json"
        return {"judge": digest_of(read_json(path))} if path.is_file() else {}
    config = value if kind == "alpaca" else "" if colon or not judge else judge
    return _annotator_digest(config) if config and Path(config).expanduser().exists() else {}


def _annotator_digest(config: str) -> dict[str, str]:
    from ..alpaca.config import config_path, read_config, read_template

    path = config_path(config)
    entries = read_config(path)
    prompts = {name: read_template(entry, path, name) for name, entry in entries.items()}
    return {"judge": digest_of([entries, prompts])}
