"""Reports as static Spaces."""

import pytest
import yaml

from pd_trl.publishing.report import publish_report, space_card
from tests.hub.local import OTHER
from tests.publishing.selections import select_into

PAGE = "<!doctype html>\n<html><body>a report</body></html>\n"


def publish(path, repo_id, **options):
    done = publish_report(path, repo_id, **options)
    return {"sha": done.sha, "text": str(done), "added": sorted(done.commit.added), "url": done.url}


def write_readme(repo_id: str, text: str) -> None:
    from huggingface_hub import HfApi

    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo_id, repo_type="space")


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(PAGE)
    return path


def test_a_page_becomes_a_static_space(hub, page):
    name = f"me/report-{hub.mode}"
    done = hub.run(publish, page, name, dataset="me/uf-scored", title="What was kept")
    assert done["added"] == ["README.md", "index.html"] and done["url"].endswith(f"/spaces/{name}")
    assert hub.text("spaces", name, "index.html") == PAGE
    assert hub.repo("spaces", name)["sdk"] == "static"
    card = hub.text("spaces", name, "README.md")
    metadata = yaml.safe_load(card.split("---\n")[1])
    wanted = {"title": "What was kept", "sdk": "static", "app_file": "index.html", "datasets": ["me/uf-scored"]}
    assert wanted.items() <= metadata.items()
    again = hub.run(publish, page, name, dataset="me/uf-scored", title="What was kept")
    assert again["sha"] == done["sha"] and "nothing to change" in again["text"]


def test_words_and_settings_of_a_user_survive(plain_hub, page):
    plain_hub.run(publish, page, "me/my-space")
    mine = plain_hub.text("spaces", "me/my-space", "README.md").replace("colorFrom: blue", "colorFrom: red\nemoji: X")
    plain_hub.run(write_readme, "me/my-space", mine + "\nWords of my own.\n")
    page.write_text(PAGE.replace("report", "better report"))
    plain_hub.run(publish, page, "me/my-space", dataset="me/uf-scored")
    card = plain_hub.text("spaces", "me/my-space", "README.md")
    assert "Words of my own." in card and "colorFrom: red" in card and "emoji: X" in card and "me/uf-scored" in card
    assert "better" in plain_hub.text("spaces", "me/my-space", "index.html")


def test_report_of_a_selections_folder(plain_hub, tmp_path):
    plain_hub.run(publish, select_into(tmp_path / "select"), "me/made")
    text = plain_hub.text("spaces", "me/made", "index.html")
    assert "<html" in text.lower() and "18" in text


def test_report_of_a_run_and_of_the_reports_folder(plain_hub, page, tmp_path):
    select_into(tmp_path / "run" / "select")
    plain_hub.run(publish, tmp_path / "run", "me/of-the-run")
    assert "<html" in plain_hub.text("spaces", "me/of-the-run", "index.html").lower()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text(page.read_text())
    plain_hub.run(publish, tmp_path / "report", "me/of-a-folder")
    assert plain_hub.text("spaces", "me/of-a-folder", "index.html") == page.read_text()


def test_dry_run_and_what_is_refused(plain_hub, page, tmp_path):
    done = plain_hub.run(publish, page, "me/dry-space", dry_run=True)
    assert "+ index.html" in done["text"] and "sdk: static" in done["text"]
    assert plain_hub.repo("spaces", "me/dry-space") is None
    plain_hub.call(publish, page, "me/dry-space", token=OTHER, user="other").refused("not a member of 'me'")
    plain_hub.call(publish, tmp_path / "nothing.html", "me/dry-space").refused("no report")
    (tmp_path / "text.html").write_text("just text")
    plain_hub.call(publish, tmp_path / "text.html", "me/dry-space").refused("not an HTML file")


def test_card_of_a_space_escapes_names():
    card = space_card("me/x", None, dataset="me/<b>|`")
    assert "<b>" not in card.split("---\n")[2].split("](")[0]
