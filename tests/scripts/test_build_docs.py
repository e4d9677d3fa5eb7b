"""Links of a built site that lead nowhere are found."""

import importlib.util

from tests.docs.pages import ROOT

spec = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts" / "build_docs.py")
build_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_docs)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    links = [
        "sub/b.html#there",
        "sub/b.html#not-there",
        "gone.html",
        "#top",
        "#no-top",
        "https://example.org/x",
        "a%20b.png",
    ]
    (tmp_path / "a b.png").touch()
    (tmp_path / "a.html").write_text('<i id="top">' + "".join(f'<a href="{link}">x</a>' for link in links))
    (tmp_path / "sub" / "b.html").write_text('<p id="there"><img src="../a%20b.png"><img src="c.png">')
    found = build_docs.broken_links(tmp_path)
    assert found == ["a.html: #no-top", "a.html: gone.html", "a.html: sub/b.html#not-there", "sub/b.html: c.png"]
