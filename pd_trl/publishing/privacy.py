"""What leaves the machine with a publication: no token, and no path of this machine."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hub import scrubbed

_SECRET = re.compile(
    r"^token$|(^|_)(hub|hf|access|auth|api|bearer)_?(token|key)s?$|password|passwd|secret|credential", re.I
)
# Where a run lay on this machine says nothing to others.
_LOCAL = ("env", "output_dir", "overwrite", "dry_run")


def published_value(value: Any) -> Any:
    """`value` without entries that hold secrets or local settings, without tokens, and with paths cut to their last part."""
    if isinstance(value, Mapping):
        return {
            key: published_value(entry)
            for key, entry in value.items()
            if key not in _LOCAL and not (isinstance(entry, str) and _SECRET.search(str(key)))
        }
    if isinstance(value, (list, tuple)):
        return [published_value(entry) for entry in value]
    if isinstance(value, str):
        text = scrubbed(value)
        return Path(text).name if Path(text).is_absolute() and len(Path(text).parts) > 1 else text
    return value


def published_json(content: Any) -> bytes:
    """Json of [`published_value`]."""
    return (json.dumps(published_value(content), indent=2, ensure_ascii=False, default=str) + "\n").encode()
