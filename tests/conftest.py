import os

# Read at import by huggingface_hub and torch, so set before anything imports them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import gc  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# A busy machine is no failure: no example is timed.
hypothesis.settings.register_profile("pd_trl", deadline=None)
hypothesis.settings.load_profile("pd_trl")

# A background job of a shell ignores SIGINT, one of nohup SIGHUP, and hands that down to the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real preference data beside the checkout; skips where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> "dict[str, str]":
    """Paths of tiny models with their tokenizers: `causal` (Llama) and `reward` (its sequence classifier)."""
    from tests.tiny import save_tiny_models

    return save_tiny_models(tmp_path_factory.mktemp("tiny"))


# accelerate collects garbage around each trainer, and looks through all that was ever imported: half of the time of a tiny training.
_frozen_modules = 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item) -> None:
    """What a test has imported is set aside from the garbage collector."""
    global _frozen_modules
    if len(sys.modules) > _frozen_modules + 20:
        _frozen_modules = len(sys.modules)
        gc.collect()
        gc.freeze()
