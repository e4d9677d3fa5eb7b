"""Uses alpaca_eval and undoes all that its import and its functions change in the process."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ...errors import InputError

logger = logging.getLogger(__name__)

_LOCK = threading.RLock()
_INSTALL = 'Install it with `pip install "pd_trl[alpaca]"`.'


@contextmanager
def alpaca_eval_session() -> Iterator[ModuleType]:
    """
    Yields the package alpaca_eval. At the end, the root logger, the environment and scikit-learn's configuration are
    restored. Its messages, which go to the root logger, are suppressed meanwhile. One thread at a time.

    Raises:
        InputError: If it, or a package that it imports, is not installed.
    """
    root = logging.getLogger()
    with _LOCK:
        level, handlers, disabled, filters = root.level, list(root.handlers), root.disabled, list(root.filters)
        environment = dict(os.environ)
        root.addFilter(_not_from_alpaca_eval)
        # `logging.info(…)` of a root logger without handlers would add one.
        root.addHandler(logging.NullHandler())
        try:
            package = _imported()
            import sklearn
            from alpaca_eval import utils

            bar = utils.tqdm
            try:
                with sklearn.config_context(), warnings.catch_warnings():
                    warnings.filterwarnings("ignore", category=FutureWarning, module=r"alpaca_eval\.")
                    utils.tqdm = _NoBar
                    yield package
            finally:
                utils.tqdm = bar
        finally:
            root.setLevel(level)
            root.handlers[:], root.filters[:], root.disabled = handlers, filters, disabled
            for name in set(os.environ) - set(environment):
                del os.environ[name]
            os.environ.update(environment)


def _imported() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import alpaca_eval
            import alpaca_eval.metrics.glm_winrate
    except ModuleNotFoundError as error:
        if error.name == "pkg_resources":
            raise InputError(
                "alpaca_eval needs pkg_resources, which setuptools 82 removed: install `setuptools<82`."
            ) from None
        if (error.name or "").split(".")[0] == "alpaca_eval":
            raise InputError(f"The package alpaca_eval is not installed. {_INSTALL}") from None
        raise InputError(f"alpaca_eval needs the package {error.name}, which is not installed. {_INSTALL}") from None
    package: ModuleType = alpaca_eval
    return package


def _not_from_alpaca_eval(record: logging.LogRecord) -> bool:
    if f"{os.sep}alpaca_eval{os.sep}" not in record.pathname or f"{os.sep}pd_trl{os.sep}" in record.pathname:
        return True
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s", record.getMessage())
    return False


class _NoBar:
    """Replaces the module tqdm: alpaca_eval's bars count chunks of rows, ours count requests."""

    @staticmethod
    def tqdm(iterable: Any, *args: Any, **kwargs: Any) -> Any:
        return iterable
