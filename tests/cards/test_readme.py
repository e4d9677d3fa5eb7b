"""Merging into a card that is there: what is not ours survives."""

import pytest

from pd_trl.cards import BEGIN, END, dataset_card, model_card, outside_text, split_readme
from pd_trl.cards.licenses import license_metadata
from pd_trl.errors import InputError
from pd_trl.hub.readme import join_readme, merge_metadata, merge_section
from tests.cards.examples import dataset_facts, policy_facts

THEIRS = f"""---
license: cc-by-4.0
pretty_name: My title
tags:
- mine
- trl
my_key: {{a: [1, 2]}}
extra_gated_prompt: "Be\\n---\\nnice"
configs:
- config_name: extra
  data_files: extra.parquet
dataset_info:
  features:
  - name: x
    dtype: string
---
Words before.

{BEGIN}
old words
{END}

Words after, with `{BEGIN}` in a line.
"""


def test_text_and_yaml_of_the_user_survive():
    card = dataset_card(dataset_facts(), THEIRS)
    metadata, body = split_readme(card)
    assert body.startswith("\nWords before.\n") and body.rstrip().endswith(f"Words after, with `{BEGIN}` in a line.")
    assert "old words" not in body and "**3 of 10 preference pairs**" in body
    assert (
        metadata["license"] == "cc-by-4.0"
        and metadata["pretty_name"] == "My title"
        and metadata["my_key"] == {"a": [1, 2]}
    )
    assert (
        metadata["tags"][:2] == ["mine", "trl"] and "pd_trl" in metadata["tags"] and metadata["tags"].count("trl") == 1
    )
    assert [c["config_name"] for c in metadata["configs"]] == ["extra", "selected", "scored", "dropped"]
    assert [c["config_name"] for c in metadata["dataset_info"]] == ["default", "selected", "scored", "dropped"]
    assert metadata["extra_gated_prompt"] == "Be\n---\nnice"
    assert dataset_card(dataset_facts(), card) == card


def test_the_licence_that_the_publisher_names_wins():
    metadata, _ = split_readme(dataset_card(dataset_facts(license="Apache-2.0"), THEIRS))
    assert metadata["license"] == "apache-2.0"
    old = "---\nlicense: other\nlicense_name: mine\n---\nx"
    metadata, _ = split_readme(model_card(policy_facts(base_license="llama3.1"), old))
    assert (metadata["license"], metadata["license_name"]) == ("other", "mine") and "license_link" not in metadata


@pytest.mark.parametrize(
    "given, expected",
    [
        (("MIT",), {"license": "mit"}),
        (("My Licence 1.0",), {"license": "other", "license_name": "my-licence-1.0"}),
        (("other", "Llama Community", "LICENSE"), {"license": "other", "license_name": "llama-community", "license_link": "LICENSE"}),
        ((None,), {}),
        ((" ",), {}),
    ],
)  # fmt: skip
def test_licences(given, expected):
    assert license_metadata(*given) == expected


def test_trls_licence_key_is_not_kept():
    old = "---\nlicence: license\nlibrary_name: transformers\n---\n# x\n"
    metadata, _ = split_readme(model_card(policy_facts(peft=True), old))
    assert "licence" not in metadata and metadata["library_name"] == "peft" and metadata["license"] == "llama3.1"


@pytest.mark.parametrize(
    "existing, expected",
    [
        ([{"config_name": "mine", "default": True}], "mine"),
        ([{"config_name": "mine"}], "selected"),
        ([{"config_name": "selected", "default": True}, {"config_name": "mine"}], "selected"),
        (None, "selected"),
    ],
)
def test_exactly_one_default_configuration(existing, expected):
    ours = {"configs": [{"config_name": "selected", "default": True}, {"config_name": "scored"}]}
    merged = merge_metadata({"configs": existing} if existing else {}, ours)["configs"]
    assert [c["config_name"] for c in merged if c.get("default")] == [expected]


def test_results_of_other_models_survive():
    old = {"model-index": [{"name": "other", "results": []}, {"name": "me", "results": ["old"]}]}
    merged = merge_metadata(old, {"model-index": [{"name": "me", "results": ["new"]}]})
    assert merged["model-index"] == [{"name": "other", "results": []}, {"name": "me", "results": ["new"]}]
    assert merge_metadata(old, {"model-index": []}) == old


@pytest.mark.parametrize(
    "text",
    [f"{BEGIN}\nx", f"x\n{END}", f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"],
)
def test_broken_markers_are_refused(text):
    with pytest.raises(InputError, match="once and the line .* once after it.*Remove them"):
        merge_section(text, "ours")


@pytest.mark.parametrize(
    "text, message", [("---\na: [\n---\nx", "cannot be read"), ("---\n- a\n---\nx", "must be a mapping")]
)
def test_broken_yaml_is_refused(text, message):
    with pytest.raises(InputError, match=f"{message}.*README.md"):
        dataset_card(dataset_facts(), text)


@pytest.mark.parametrize(
    "text, metadata, body",
    [
        ("", {}, ""),
        ("just text", {}, "just text"),
        ("---\n---\nx", {}, "x"),
        ("\ufeff---\r\na: 1\r\n---\r\nx", {"a": 1}, "x"),
        ("---\na: 1\n---", {"a": 1}, ""),
        ("x\n---\na: 1\n---\n", {}, "x\n---\na: 1\n---\n"),
    ],
)
def test_front_matter(text, metadata, body):
    assert split_readme(text) == (metadata, body)


def test_windows_line_ends_keep_the_markers():
    text = f"Before\r\n\r\n{BEGIN}\r\nold\r\n{END}\r\n\r\nAfter\r\n"
    assert merge_section(text, "new") == f"Before\r\n\r\n{BEGIN}\nnew\n{END}\r\n\r\nAfter\r\n".replace(
        f"{END}\r\n\r\nA", f"{END}\n\r\nA"
    )
    assert outside_text(text).split() == ["Before", "After"]


def test_yaml_is_written_without_anchors():
    shared = [{"name": "x"}]
    text = join_readme({"a": shared, "b": shared, "ü": "ß"}, "body")
    assert "&" not in text and "*" not in text and "ü: ß" in text


def test_card_names_the_default_configuration_that_is_there():
    mine = "---\nconfigs:\n- config_name: mine\n  data_files: mine.parquet\n  default: true\n---\n# Mine\n"
    for existing, shown in ((None, "`selected` (default)"), (mine, "`selected` |")):
        assert shown in dataset_card(dataset_facts(), existing)
    assert "(default)" not in dataset_card(dataset_facts(), mine)
