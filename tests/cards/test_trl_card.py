"""What is kept of TRL's own card."""

from trl.trainer.utils import generate_model_card

from pd_trl.cards.trl_card import read_trl_card


def trl_card(base_model: str | None = "Qwen/Qwen3-0.6B", **changes) -> str:
    values = dict(
        base_model=base_model, model_name="my-model", hub_model_id="me/my-model", dataset_name="me/data", tags=["trl", "dpo"],
        wandb_url="https://wandb.ai/run", trackio_url=None, trainer_name="DPO", trainer_citation="@article{dpo,\n# not a heading\n}",
        paper_title="Direct", paper_id="2305.18290",
    )  # fmt: skip
    return str(generate_model_card(**{**values, **changes}))


def test_procedure_and_citations_are_kept():
    card = read_trl_card(trl_card())
    assert card.procedure.startswith("[<img src=") and "(https://wandb.ai/run)" in card.procedure
    assert card.procedure.endswith("[Direct](https://huggingface.co/papers/2305.18290).")
    assert card.citations.startswith("Cite DPO as:") and "# not a heading" in card.citations
    assert "vonwerra2020trl" in card.citations and card.citations.count("```") == 4
    assert card.metadata["datasets"] == "me/data" and card.metadata["base_model"] == "Qwen/Qwen3-0.6B"


def test_its_mistakes_are_not():
    text = trl_card(None)
    assert "licence: license" in text and "huggingface.co/None" in text, "TRL mends its card: simplify ours"
    card = read_trl_card(text)
    assert "licence" not in card.metadata and "license" not in card.metadata
    assert "None" not in card.procedure + card.citations
    assert card.metadata["tags"] == sorted(card.metadata["tags"])


def test_a_card_of_another_form_loses_nothing_but_itself():
    card = read_trl_card("no headings, no YAML")
    assert (card.metadata, card.procedure, card.citations) == ({}, "", "")
