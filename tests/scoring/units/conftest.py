import pytest

from tests.tiny import ASPECTS, tiny_preferences, tiny_reward_model, tiny_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """Three reward models that differ, with large gaps."""
    root = tmp_path_factory.mktemp("rm")
    for seed, aspect in enumerate(ASPECTS):
        model = tiny_reward_model(seed)
        model.score.weight.data.mul_(50)
        model.save_pretrained(root / aspect)
        tiny_tokenizer().save_pretrained(root / aspect)
    return {aspect: str(root / aspect) for aspect in ASPECTS}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """120 pairs in a stage's folder: two files, row groups of 5."""
    folder = tmp_path_factory.mktemp("pairs")
    data = tiny_preferences(120)
    for index in range(2):
        part = data.select(range(60 * index, 60 * index + 60))
        part.to_parquet(folder / f"train-{index:05d}-of-00002.parquet", batch_size=5)
    return folder
