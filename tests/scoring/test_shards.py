import pytest
from datasets import Dataset

from pd_trl.scoring.shards import ShardFolder, compute_shards


@pytest.mark.parametrize("damage", ["a flipped bit", "emptied", "cut short"])
def test_a_shard_that_is_not_as_it_was_written_is_scored_again(tmp_path, caplog, damage):
    computed = []

    def compute(index):
        computed.append(index)
        return Dataset.from_dict({"pair_id": [f"p{index}"]}), {"tokens": 3}

    shards = ShardFolder(tmp_path, 2, {"data": "x"})
    compute_shards(shards, compute)
    written = shards.path(1).read_bytes()
    flipped = bytearray(written)
    flipped[len(written) // 2] ^= 1
    shards.path(1).write_bytes({"a flipped bit": bytes(flipped), "emptied": b"", "cut short": written[:-1]}[damage])
    assert shards.done == [0] and f"{shards.path(1)} is damaged" in caplog.text
    compute_shards(shards, compute)
    assert sorted(computed) == [0, 1, 1] and shards.done == [0, 1]
    assert shards.merged()[0]["pair_id"][:] == ["p0", "p1"]
