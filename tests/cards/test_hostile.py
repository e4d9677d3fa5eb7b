"""Texts of others in cards: they stay text, and the card keeps its shape."""

import ast
import re
from html.parser import HTMLParser

import pytest
import yaml

from pd_trl.cards import BEGIN, END, cell, code, dataset_card, model_card, split_readme
from pd_trl.cards.text import MAX_CHARACTERS, Safe, literal, passage, repo_link, table, url, visible
from tests.cards.examples import dataset_facts, policy_facts, reward_facts
from tests.hub.server.validation import metadata_errors

HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "end of a table": "</td></tr></table><h1>owned</h1>",
    "details": "</details><iframe src='https://evil.example'>",
    "comment": "<!-- hidden",
    "our markers": f"x\n{END}\n{BEGIN}\ny",
    "our end alone": END,
    "heading": "x\n\n# owned\n\ny",
    "setext heading": "x\n===\ny\n---\nz",
    "front matter": "---\nlicense: owned\n---\n",
    "yaml": "a: [b, {c: *d}]\n- &x !!python/object:os.system",
    "table": "a | b | c\n|---|---|\n| 1 | 2 |",
    "code fence": "```\nowned\n```\n~~~",
    "backticks": "``` ` `` `",
    "link": "[click](javascript:alert(1)) ![i](https://evil.example/x.png) <https://evil.example>",
    "bare link": "https://evil.example www.evil.example mailto:a@evil.example",
    "reference": "[x]: https://evil.example\n\n[x]",
    "emphasis": "**bold** _it_ ~~gone~~ *",
    "list": "- a\n- b\n1. c\n+ d",
    "jinja": "{{ 7 * 7 }}{% for x in y %}{{ facts.__class__ }}{# c #}",
    "quotes": "\"'`\\\\\" + __import__('os').system('x') + \"",
    "control": "a\x00b\x1b[31mred\x07\x7f\x9b",
    "bidi": "abc\u202egnp.exe\u2066\u2069",
    "line ends": "a\r\nb\rc\u2028d\u2029e\x0bf\x0cg\x85h",
    "surrogate": "\ud800 lone",
    "spaces only": " \n\t ",
    "long line": "w" * 200_000,
    "many lines": "line\n" * 20_000,
    "entities": "&lt;script&gt;&#60;b&#62;&amp;amp;",
    "maths": "$$x$$ \\(y\\) $z$",
}
RENDER = {
    "dataset": ("dataset", lambda text: dataset_card(dataset_facts(text))),
    "policy": ("model", lambda text: model_card(policy_facts(text))),
    "reward": ("model", lambda text: model_card(reward_facts(text))),
}


class Tags(HTMLParser):
    """The tags of an HTML text, in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag != "br":
            self.found.append((tag, tuple(name for name, _ in attributes)))

    def handle_endtag(self, tag):
        self.found.append(f"/{tag}")


def shape(card: str) -> list:
    """Tags of a card as HTML: what a reader's browser builds from it."""
    markdown_it = pytest.importorskip("markdown_it")
    _, body = split_readme(card)
    parser = markdown_it.MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])
    tags = Tags()
    tags.feed(parser.render(body))
    return tags.found


@pytest.mark.parametrize("kind", RENDER)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_changes_nothing_but_words(kind, name):
    repo_type, render = RENDER[kind]
    card = render(HOSTILE[name])
    assert shape(card) == shape(render("plain words"))
    metadata, body = split_readme(card)
    assert body.count(BEGIN) == 1 and body.count(END) == 1
    assert metadata_errors(metadata, repo_type) == []
    assert metadata.get("license") in ("mit", "llama3.1", "apache-2.0")
    assert len(card) < 60_000 and card == card.encode().decode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", card)


@pytest.mark.parametrize("name", HOSTILE)
def test_snippets_stay_python(name):
    """Every snippet compiles, and holds the text as a string if at all."""
    card = dataset_card(dataset_facts(HOSTILE[name])) + model_card(reward_facts(HOSTILE[name], peft=False))
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == 6
    for snippet in snippets:
        compile(snippet, "card", "exec")
        names = {node.id for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Name)}
        assert "__import__" not in names


def test_a_hostile_title_is_a_string_in_yaml():
    for text in HOSTILE.values():
        metadata, _ = split_readme(dataset_card(dataset_facts(text)))
        assert isinstance(metadata.get("pretty_name", ""), str)
        assert yaml.safe_load(yaml.safe_dump(metadata)) == metadata


def test_words_in_cells():
    assert (
        cell("a|b") == "a\\|b"
        and cell("<b>") == "&lt;b&gt;"
        and cell("# x") == "\\# x"
        and cell("2026-11-24") == "2026-11-24"
    )
    assert cell("1. x") == "1\\. x" and cell('it\'s "so"') == 'it\'s "so"' and cell("x\n\ny") == "x y"
    assert code("a`b|c") == "`a'b¦c`" and code("") == "` `"
    assert table([["a", "b"], ["c", Safe("**d**")]]) == "| a | b |\n| --- | --: |\n| c | **d** |"
    assert visible("a\u200db") == "a\u200db" and visible("a\u202eb") == "a\ufffdb"
    assert passage("x" * 3000).endswith("more characters)") and len(passage("x" * 3000)) < MAX_CHARACTERS + 50
    assert literal("a`<\n") == '"a\\u0060\\u003c\\n"'


@pytest.mark.parametrize("name", ["../x", "/tmp/model", "a b", "x/y/z", "a/b)](javascript:1", "", "~/m", "a--b"])
def test_only_hub_ids_become_links(name):
    assert "](" not in repo_link(name).replace("b)](", "")


def test_only_web_addresses_become_links():
    assert url("javascript:alert(1)") == "#" and url("https://a.b/c(d)\n") == "https://a.b/c%28d%29%0A"
