"""Who writes a trainer's card, by where the trainer is imported from. Each way of importing needs a process of its own."""

import sys

from tests.processes import run

# Ends what we write into a card.
OURS = "<!-- pd_trl:end -->"
DEEP = """
from pd_trl.trainers.dpo.config import PDDPOConfig
from pd_trl.trainers.dpo.trainer import PDDPOTrainer
from pd_trl.trainers.reward.config import PDRewardConfig
from pd_trl.trainers.reward.trainer import PDRewardTrainer
"""
TOP = "from pd_trl import PDDPOConfig, PDDPOTrainer, PDRewardConfig, PDRewardTrainer"
CARDS = """
import sys
from tests.tiny import tiny_preferences

def made(trainer, config, **settings):
    args = config(f"{sys.argv[2]}/{trainer.__name__}", use_cpu=True, bf16=False, report_to="none", **settings)
    return trainer(model=sys.argv[1], args=args, train_dataset=tiny_preferences(8))

kinds = [(PDDPOTrainer, PDDPOConfig), (PDRewardTrainer, PDRewardConfig)]
trainers = [made(*kind) for kind in kinds]
for trainer in trainers:
    trainer.create_model_card()
"""
PUSHES = """
from pd_trl.errors import InputError
for refused in [*(trainer.push_to_hub for trainer in trainers), *(lambda k=k: made(*k, push_to_hub=True) for k in kinds)]:
    try:
        refused()
    except InputError as error:
        print(error)
print(sorted(name for name in sys.modules if name.startswith(("pd_trl.cards", "pd_trl.publishing"))))
"""


def cards_of(script, tiny_models, tmp_path):
    done = run([sys.executable, "-c", script, tiny_models["causal"], str(tmp_path)])
    assert done.returncode == 0, done.stderr
    names = ("PDDPOTrainer", "PDRewardTrainer")
    return done.stdout, [(tmp_path / name / "README.md").read_text(encoding="utf-8") for name in names]


def test_trainers_of_their_own_modules_write_trls_card_and_refuse_to_push(tiny_models, tmp_path):
    said, cards = cards_of(DEEP + CARDS + PUSHES, tiny_models, tmp_path)
    assert all("TRL" in card and OURS not in card for card in cards)
    *refusals, imported = said.splitlines()
    assert len(refusals) == 4 and len(set(refusals)) == 1 and "`from pd_trl import PDRewardTrainer`" in refusals[0]
    assert imported == "[]"
    # A push that is refused saves nothing first.
    assert not list(tmp_path.rglob("*.safetensors"))


def test_trainers_of_the_package_write_our_cards(tiny_models, tmp_path):
    _, cards = cards_of(TOP + CARDS, tiny_models, tmp_path)
    assert all(OURS in card for card in cards)
