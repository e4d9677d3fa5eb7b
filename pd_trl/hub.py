"""The one place that talks to the Hugging Face Hub."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from .errors import InputError

# Weights that are not safetensors, and training state, are never fetched.
_IGNORED = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5", "*.onnx", "*.gguf", "checkpoint-*/*", "runs/*"]


def local_model_folder(name: str | os.PathLike, *, revision: str | None = None, what: str = "model") -> Path:
    """
    The local folder of a model: `name` itself where it is one, or the cached snapshot of the Hub repository `name`.

    Raises:
        InputError: When there is no such folder, and no such repository or no connection.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    text = str(name)
    if path.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or path.exists():
        raise InputError(f"The {what} must be a folder or a Hub id, but there is no folder {text}.")
    try:
        return Path(snapshot_download(text, revision=revision, ignore_patterns=_IGNORED))
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"The {what} {text!r} is no local folder, and the Hub cannot be reached ({type(error).__name__}). Check the path, "
            "or the connection and HF_HUB_OFFLINE."
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        raise InputError(
            f"The {what} {text!r} is no local folder, and the Hub refuses it ({type(error).__name__}, status {status}). Check "
            "the name, and that your token may read it (`hf auth whoami`)."
        ) from None
    except HFValidationError:
        raise InputError(f"The {what} {text!r} is neither a local folder nor a valid Hub id.") from None
