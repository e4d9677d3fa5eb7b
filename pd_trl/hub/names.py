"""Names of repositories on the Hub."""

from huggingface_hub.constants import REPO_TYPES_URL_PREFIXES
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def is_repo_id(name: object, namespaced: bool = True) -> bool:
    """Whether `name` has the form of a Hub id: with a namespace, or, unless `namespaced`, of an old one without (`gpt2`)."""
    if not isinstance(name, str) or not name or name.startswith(("/", ".", "~")) or ("/" not in name and namespaced):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def page_path(repo_id: str, repo_type: str) -> str:
    """Path of a repository's page on the Hub."""
    return REPO_TYPES_URL_PREFIXES.get(repo_type, "") + repo_id
