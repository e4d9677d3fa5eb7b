"""How a text names a reward model, or one head of it."""

from pathlib import Path


def split_aspect(model: str) -> tuple[str, str | None]:
    """Folder or Hub id, and the aspect where there is one, of a text such as `me/rm-heads#honesty`."""
    name, _, aspect = model.rpartition("#")
    return (name, aspect) if name and aspect and not Path(model).expanduser().exists() else (model, None)
