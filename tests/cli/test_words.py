"""One word for one thing on all commands; a word of the last version works once more."""

import pytest

from pd_trl.cli.renamed import old_words
from pd_trl.cli.stage_commands import stage_parser
from pd_trl.pipeline.registry import STAGES

OLD = {name: words for name, stage in STAGES.items() if (words := old_words(stage.load().arguments))}


def test_no_command_uses_a_word_that_another_gave_up():
    given_up = {old for words in OLD.values() for old in words}
    assert {"baselines", "dataset_train_split", "model_outputs", "num_bootstrap", "revision", "split"} == given_up
    assert [(name, old) for name in STAGES for old in given_up if old in stage_parser(name).actions] == []
    assert [
        (name, new) for name, words in OLD.items() for new in words.values() if new not in stage_parser(name).actions
    ] == []


@pytest.mark.parametrize(
    "stage, flags, values",
    [
        ("evaluate pairwise", ["--baselines", "a.json"], {"reference_outputs": "a.json"}),
        ("prepare", ["--dataset-train-split=test"], {"dataset_split": "test"}),
        ("rate", ["--dataset_train_split", "test"], {"dataset_split": "test"}),
        ("export", ["--split", "test", "--revision", "v1"], {"dataset_split": "test", "dataset_revision": "v1"}),
        ("evaluate alpaca", ["--num_bootstrap", "7"], {"num_resamples": 7}),
    ],
)
def test_old_words_work(stage, flags, values):
    (arguments, *_), _ = stage_parser(stage).parse(flags)
    assert {name: getattr(arguments, name) for name in values} == values
