import logging
import os
import sys

import pytest

from tests.processes import run

IMPORT = """
import sys
sys.modules[{name!r}] = None
from pd_trl.errors import InputError
from pd_trl.evaluation.alpaca.session import alpaca_eval_session
try:
    with alpaca_eval_session():
        pass
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "name, words",
    [
        ("pkg_resources", "`setuptools<82`"),
        ("alpaca_eval", 'pip install "pd_trl[alpaca]"'),
        ("patsy", "needs the package patsy"),
    ],
)
def test_what_is_not_installed_is_named(name, words):
    result = run([sys.executable, "-c", IMPORT.format(name=name)])
    assert result.returncode == 0 and words in result.stdout, result


def test_session_puts_back_what_changes():
    from pd_trl.evaluation.alpaca.session import alpaca_eval_session

    root = logging.getLogger()
    before = root.level, list(root.handlers), list(root.filters), dict(os.environ)
    with pytest.raises(RuntimeError), alpaca_eval_session():
        import sklearn
        from alpaca_eval import utils

        root.setLevel(logging.DEBUG)
        sklearn.set_config(enable_metadata_routing=True)
        os.environ["OPENAI_API_KEY"] = "changed"
        os.environ["ADDED"] = "1"
        assert list(utils.tqdm.tqdm([1, 2])) == [1, 2]
        raise RuntimeError
    assert (root.level, root.handlers, root.filters, dict(os.environ)) == before
    assert not sklearn.get_config()["enable_metadata_routing"]
    assert utils.tqdm.__name__ == "tqdm"
