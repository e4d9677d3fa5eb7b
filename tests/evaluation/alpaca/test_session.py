import logging
import os
import sys

import pytest

from tests.processes import run

MISSING = {
    "pkg_resources": "`setuptools<82`",
    "alpaca_eval": 'pip install "pd_trl[alpaca]"',
    "patsy": "needs the package patsy",
}
# One process for all: importing what is there takes seconds.
IMPORT = """
import sys
from pd_trl.errors import InputError
from pd_trl.evaluation.alpaca.session import alpaca_eval_session
for name in sys.argv[1:]:
    sys.modules[name] = None
    try:
        with alpaca_eval_session():
            pass
    except InputError as error:
        print(name, " ".join(str(error).split()), sep=": ")
    for loaded in [known for known in sys.modules if known.split(".")[0] in ("alpaca_eval", name)]:
        del sys.modules[loaded]
"""


def test_what_is_not_installed_is_named():
    result = run([sys.executable, "-c", IMPORT, *MISSING])
    said = dict(line.split(": ", 1) for line in result.stdout.splitlines() if ": " in line)
    assert result.returncode == 0 and said.keys() >= MISSING.keys(), result
    assert all(words in said[name] for name, words in MISSING.items()), said


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
