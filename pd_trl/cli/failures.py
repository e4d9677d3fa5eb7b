"""Turns an error into one line for the user, and into a log with the traceback where pd_trl did not expect it."""

import errno
import os
import tempfile
import time
import traceback
from pathlib import Path

from ..errors import InputError
from ..runs.folders import ERROR_LOG
from .processes import StageEnded

# Of the disk: full, read-only, no permission, too many open files, a name that is too long, a file in place of a folder.
_OF_THE_USER = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG,
    errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip


def describe(error: Exception) -> tuple[str, int]:
    """What to tell the user, and the exit code: 2 where the user can fix it, else 1."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, StageEnded):
        return text, error.code
    if isinstance(error, InputError):
        return text, 2
    line = " ".join(text.split())
    if _disk_is_full(error):
        return f"No space left on the disk ({line[:160]}). Make room or choose another folder, and run it again.", 2
    if isinstance(error, OSError) and (error.errno in _OF_THE_USER or _is_of_the_output(error)):
        place = f": {error.filename}" if error.filename else ""
        if _is_of_the_cache(error):
            return (
                f"{error.strerror}{place}, where Hugging Face's libraries keep their files. Set HF_HOME to a folder that can be written.",
                2,
            )
        return (
            f"{error.strerror}{place}. Finished work is kept. Fix this or choose another folder, and run the command again.",
            2,
        )
    if isinstance(error, MemoryError) or _is_named(error, "torch", "OutOfMemoryError"):
        return f"Out of memory ({line[:160]}). Take smaller batches or a shorter `max_length`, and run it again.", 2
    if _is_named(error, "peft", "NoMatchingPeftModuleError"):
        return f"The adapter fits no layer of the model. Check `lora_target_modules` ({line[:160]}).", 2
    if _is_named(error, "huggingface_hub", "HfHubHTTPError"):
        return f"The Hub refuses a request ({line[:300]}). Check the name, and that your token may read it.", 2
    return f"{line} ({type(error).__name__}). pd_trl did not expect this error; its traceback is in {_log(error)}", 1


def _disk_is_full(error: Exception) -> bool:
    # torch and safetensors have errors of their own for a file that cannot be written.
    text = str(error)
    return "No space left" in text or "PytorchStreamWriter failed" in text or "unexpected pos" in text


def _is_of_the_output(error: OSError) -> bool:
    """Whether the output's folder, or one above it, cannot be made: `/proc` and some mounts say that it does not exist."""
    output_dir = getattr(error, "output_dir", None)
    if error.errno != errno.ENOENT or not output_dir or not isinstance(error.filename, (str, os.PathLike)):
        return False
    own = Path(output_dir).expanduser().absolute()
    return Path(error.filename).absolute() in (own, *own.parents)


def _is_of_the_cache(error: OSError) -> bool:
    """Whether a path is in the cache of the Hub's libraries, or above it and not above the command's own folder."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return False
    from huggingface_hub.constants import HF_HOME

    path, cache = Path(error.filename).absolute(), Path(HF_HOME).expanduser().absolute()
    output_dir = getattr(error, "output_dir", None)
    own = Path(output_dir).expanduser().absolute() if output_dir else None
    return cache in (path, *path.parents) or (path in cache.parents and (own is None or path not in own.parents))


def _is_named(error: Exception, package: str, name: str) -> bool:
    """Whether an error is of a class, found without importing its package."""
    return any(kind.__name__ == name and kind.__module__.split(".")[0] == package for kind in type(error).__mro__)


def _log(error: Exception) -> Path:
    """Appends the traceback to `error.log` in the stage's folder, or writes it to a temporary file."""
    rank = f", process {os.environ['RANK']}" if "RANK" in os.environ else ""
    head = f"--- {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}{rank}\n"
    text = head + "".join(traceback.format_exception(error))
    folder = getattr(error, "output_dir", None)
    if folder:
        path = Path(folder).expanduser() / ERROR_LOG
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A traceback may show the data, which are the user's alone.
            with open(
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                "a",
                encoding="utf-8",
                errors="backslashreplace",
            ) as stream:
                stream.write(text)
            return path
        except OSError:
            pass  # a folder that takes no file is no reason to lose the traceback
    descriptor, name = tempfile.mkstemp(prefix="pd_trl-", suffix=".log")
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    return Path(name)
