"""Whether the Hub would refuse a push, asked before hours of work."""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from .client import HubError, HubUnreachableError, hub_api, retried, scrubbed, status_of

WRITE_PERMISSION = "repo.write"
_identities: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}


@dataclass(frozen=True)
class Access:
    """
    What the Hub says about a repository that is to be written to.

    Args:
        repo_id (`str`): Full id, with its namespace.
        repo_type (`str`): `"dataset"`, `"model"` or `"space"`.
        user (`str`): Name of the token's user.
        exists (`bool`): Whether the repository is there.
        private (`bool`, *optional*): Whether it is private; `None` where it does not exist.
        head (`str`, *optional*): Commit at the head of its main branch.
        unasked (`str`, *optional*): Why the Hub was not asked, in a dry run: the repository is taken for a new one.
    """

    repo_id: str
    repo_type: str
    user: str
    exists: bool
    private: bool | None = None
    head: str | None = None
    unasked: str | None = None

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"{self.repo_type} {self.repo_id}"


def check_access(
    repo_id: str,
    repo_type: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    resumes: bool = True,
    token: str | None = None,
) -> Access:
    """
    Asks the Hub whether `repo_id` can be written to, and changes nothing there.

    Args:
        repo_id (`str`): `"name"` (of the token's user) or `"namespace/name"`.
        repo_type (`str`): `"dataset"`, `"model"` or `"space"`.
        private (`bool`, *optional*): Visibility that is wanted. `None` takes what is there, or the namespace's default.
        create_pr (`bool`, *optional*, defaults to `False`): Whether the change is to be a pull request.
        branch (`str`, *optional*): Branch that is to be written.
        tag (`str`, *optional*): Tag that the publication is to get.
        resumes (`bool`, *optional*, defaults to `True`): Whether an interrupted publication may have given the tag. Then the
            head of a branch may have it, and the push compares the content.
        token (`str`, *optional*): Token; the one of `hf auth login` or HF_TOKEN where unset.

    Raises:
        HubError: When the push would be refused: no token, an expired or read-only one, a namespace or repository without
            rights, a wrong name, another visibility than the repository's, a pull request to no repository, or a tag in use.
    """
    api = hub_api(token)
    check_name(repo_id)
    check_ref(branch, "branch")
    check_ref(tag, "tag")
    if tag is not None and create_pr:
        raise HubError(
            f"The tag {tag!r} cannot be given to a pull request, whose commit is not on a branch yet. Leave `tag` out, and tag the "
            "repository when the pull request is merged."
        )
    me = _who(api)
    full = repo_id if "/" in repo_id else f"{me['name']}/{repo_id}"
    what = f"{repo_type} {full}"
    _check_token(me, what)
    info = read_info(full, repo_type, token=token)
    if info is None and create_pr:
        raise HubError(f"There is no {what} to open a pull request at. Publish without create_pr, or check the name.")
    if not create_pr:
        _check_rights(api, me, full, repo_type, exists=info is not None)
    if info is None:
        return Access(full, repo_type, me["name"], exists=False)
    is_private = bool(info.private)
    if private is not None and private != is_private:
        there, wanted = ("private", "public") if is_private else ("public", "private")
        raise HubError(
            f"The {what} is {there}, and was asked to be {wanted}. Change its visibility in its settings on the Hub, leave "
            f"`private` out, or publish under another name. Nothing was uploaded."
        )
    if tag is not None:
        _check_tag(api, full, repo_type, tag, resumes)
    return Access(full, repo_type, me["name"], True, is_private, info.sha)


def planned_access(repo_id: str, repo_type: str, *, dry_run: bool, **options: Any) -> Access:
    """[`check_access`]; in a dry run without a token or a connection, a new repository."""
    try:
        return check_access(repo_id, repo_type, **options)
    except HubUnreachableError as error:
        if not dry_run:
            raise
        full = repo_id if "/" in repo_id else f"your-name/{repo_id}"
        return Access(full, repo_type, "", exists=False, unasked=str(error))


def check_name(repo_id: str) -> None:
    """Raises `HubError` unless `repo_id` is a name that the Hub accepts."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no name for a repository on the Hub: {' '.join(str(error).split())}") from None


def check_card(card: str, repo_type: str, what: str, *, token: str | None = None) -> None:
    """Raises `HubError` with the Hub's own words where its validator refuses the metadata of `card`, a whole README.md."""
    # Not `RepoCard.validate`: before huggingface_hub 2 it asks huggingface.co whatever HF_ENDPOINT says, and a 5xx ends it
    # (test_card_is_validated_by_the_hub).
    api = hub_api(token)

    def validate() -> list[str]:
        url = f"{api.endpoint}/api/validate-yaml"
        response = get_session().post(url, json={"content": card, "repoType": repo_type})
        if response.status_code in (200, 400):
            return [str(error.get("message", error)) for error in response.json().get("errors", [])]
        response.raise_for_status()
        return []

    try:
        errors = retried(validate, f"Validating the card of the {what}")
    except json.JSONDecodeError:
        raise HubError(f"Validating the card of the {what}: the Hub gave no answer that can be read.") from None
    if errors:
        raise HubError(
            f"The Hub refuses the metadata of the card of the {what}: {scrubbed('; '.join(errors))}. Nothing was uploaded."
        )


def check_training_push(args: Any, *, folder: str | None = None) -> Access | None:
    """
    [`check_access`] for training arguments with `push_to_hub`, before training; `None` where they do not push.

    Args:
        args ([`~transformers.TrainingArguments`]): Arguments of a trainer.
        folder (`str`, *optional*): Name of the repository where `hub_model_id` is unset. Defaults to that of `output_dir`.
    """
    if not getattr(args, "push_to_hub", False):
        return None
    repo_id = args.hub_model_id or folder or Path(args.output_dir).absolute().name
    return check_access(repo_id, "model", private=args.hub_private_repo, token=args.hub_token)


def _who(api: HfApi) -> dict[str, Any]:
    """Whose token it is. An answer is kept for a minute: the Hub limits this question more strictly than others."""
    key = api.endpoint, hashlib.sha256(str(api.token or get_token()).encode()).hexdigest()
    asked, me = _identities.get(key, (0.0, {}))
    if not me or time.monotonic() - asked > 60:
        me = retried(api.whoami, "Asking the Hub whose token this is", attempts=4)
        _identities[key] = time.monotonic(), me
    return me


def _check_token(me: dict[str, Any], what: str) -> None:
    role = _token(me).get("role")
    if role == "read":
        raise HubError(
            f"The token of {me['name']!r} can only read, and cannot publish the {what}. Make one with write access "
            "(https://huggingface.co/settings/tokens) and log in with `hf auth login`."
        )


def _token(me: dict[str, Any]) -> dict[str, Any]:
    return (me.get("auth") or {}).get("accessToken") or {}


def read_info(repo_id: str, repo_type: str, *, token: str | None = None) -> Any:
    """What the Hub says about a repository; `None` where it does not exist, or the token may not see it."""
    api = hub_api(token)

    def read() -> Any:
        try:
            return api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError as error:
            if status_of(error) == 401:
                raise
            return None

    return retried(read, f"Looking for the {repo_type} {repo_id}")


def check_namespace(namespace: str | None, what: str, *, token: str | None = None) -> str:
    """
    The namespace, or the token's user where it is `None`.

    Raises:
        HubError: When the token may not write there.
    """
    me = _who(hub_api(token))
    _check_token(me, what)
    owner = namespace or str(me["name"])
    _check_member(me, owner, what, " Use your own name, or ask for the right to write.")
    return owner


def _check_rights(api: HfApi, me: dict[str, Any], repo_id: str, repo_type: str, *, exists: bool) -> None:
    namespace = repo_id.split("/")[0]
    what = f"{repo_type} {repo_id}"
    proposal = (
        " Propose the change as a pull request with create_pr (--create_pr true), or publish elsewhere."
        if exists
        else " Publish under your own name, or ask for the right to write."
    )
    _check_member(me, namespace, what, proposal)
    scoped = _token(me).get("fineGrained", {}).get("scoped")
    if _token(me).get("role") == "fineGrained" and scoped is not None and not _covers(scoped, repo_id, repo_type):
        raise HubError(
            f"The fine-grained token of {me['name']!r} has no right to write to the {what}. Give it the permission "
            f"'{WRITE_PERMISSION}' for {namespace!r} or for this repository (https://huggingface.co/settings/tokens)."
        )
    if exists:
        _check_write(api, repo_id, repo_type, f"The {what} cannot be written to.{proposal}")


def _check_member(me: dict[str, Any], namespace: str, what: str, advice: str) -> None:
    roles = {org.get("name"): org.get("roleInOrg") for org in me.get("orgs") or []}
    if namespace == me["name"] or roles.get(namespace, "read") != "read":
        return
    state = "can only read in" if namespace in roles else "is not a member of"
    raise HubError(f"{me['name']!r} {state} {namespace!r}, and so cannot publish the {what}.{advice}")


def _covers(scoped: list[dict[str, Any]], repo_id: str, repo_type: str) -> bool:
    namespace = repo_id.split("/")[0]
    for entry in scoped:
        entity = entry.get("entity") or {}
        if WRITE_PERMISSION not in (entry.get("permissions") or []):
            continue
        if entity.get("type") in ("user", "org") and entity.get("name") == namespace:
            return True
        if entity.get("type") == repo_type and entity.get("name") == repo_id:
            return True
    return False


def _check_write(api: HfApi, repo_id: str, repo_type: str, message: str) -> None:
    """Asks about this repository: a contributor of an organization may write only to those that are theirs."""
    try:
        retried(
            lambda: api.auth_check(repo_id, repo_type=repo_type, write=True),
            f"Asking for the right to write {repo_id}",
        )
    except TypeError:
        return  # clients before huggingface_hub 2 cannot ask: the commit will tell
    except HubError as error:
        raise HubError(f"{message} ({error})") from None


def check_ref(name: str | None, kind: str) -> None:
    """Raises `HubError` unless `name` can name a branch or tag."""
    if name is not None and (
        not re.fullmatch(r"[\w][\w.\-/]*", name) or ".." in name or name.endswith(("/", ".", ".lock"))
    ):
        raise HubError(f"{name!r} is no name for a {kind}: use letters, digits, '.', '-' and '_'.")


def _check_tag(api: HfApi, repo_id: str, repo_type: str, tag: str, resumes: bool) -> None:
    refs = retried(lambda: api.list_repo_refs(repo_id, repo_type=repo_type), f"Reading the tags of {repo_id}")
    ours = {ref.target_commit for ref in refs.branches} if resumes else set()
    if any(ref.name == tag and ref.target_commit not in ours for ref in refs.tags):
        raise HubError(
            f"The {repo_type} {repo_id} has the tag {tag!r} already. Choose another one: readers pin tags. Nothing was uploaded."
        )
