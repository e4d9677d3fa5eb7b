"""Users, tokens, organizations, and who may do what."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .model import HubError, now

RANKS = ["read", "contributor", "fineGrained", "write", "admin"]


@dataclass(frozen=True)
class Token:
    """A token: its user, its role, and what a fine-grained one covers, as `(type, name)`."""

    user: str
    role: str = "write"
    scopes: tuple[tuple[str, str], ...] = ()
    expired: bool = False


TOKENS = {
    "hf_WriteTokenOfMe0123456789abcdef": Token("me"),
    "hf_ReadTokenOfMe0123456789abcdefg": Token("me", "read"),
    "hf_ExpiredTokenOfMe0123456789abcd": Token("me", expired=True),
    "hf_WriteTokenOfOther0123456789abc": Token("other"),
    "hf_FineTokenOfMe0123456789abcdefg": Token("me", "fineGrained", (("dataset", "me/allowed"),)),
    "hf_FineTokenOfAllMine0123456789ab": Token("me", "fineGrained", (("user", "me"),)),
    "hf_WriteTokenOfNewcomer0123456789": Token("newcomer"),
}
# Organization: user: role. `newcomer` may make repositories in acme, and write to those.
ORGANIZATIONS = {
    "acme": {"me": "write", "other": "read", "newcomer": "contributor"},
    "closed": {"other": "admin"},
    "enterprise": {"me": "write"},
}
PRIVATE_BY_DEFAULT = {"enterprise"}


class Accounts:
    """Who a request comes from, and what they may do."""

    def token(self, request: Request) -> Token | None:
        header = request.headers.get("authorization", "")
        if not header or request.url.path.startswith(("/_cas", "/_lfs", "/_test")):
            return None
        token = TOKENS.get(header.removeprefix("Bearer "))
        if token is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        if token.expired:
            raise HubError(401, 'User Access Token "test" is expired')
        return token

    def role(self, token: Token | None, namespace: str) -> str | None:
        """The weaker one of the token's role and the user's in the organization."""
        if token is None:
            return None
        if namespace == token.user:
            return token.role
        role = ORGANIZATIONS.get(namespace, {}).get(token.user)
        return min(role, token.role, key=RANKS.index) if role else None

    def may_write(self, token: Token | None, kind: str, repo_id: str, creator: str | None) -> bool:
        role = self.role(token, repo_id.split("/")[0])
        if role in ("write", "admin"):
            return True
        if role == "contributor":
            return creator is None or (token is not None and creator == token.user)
        if role == "fineGrained" and token is not None:
            owner = repo_id.split("/")[0]
            return any(scope in ((kind[:-1], repo_id), ("user", owner), ("org", owner)) for scope in token.scopes)
        return False

    async def whoami(self, request: Request) -> Response:
        token: Token | None = request.state.token
        if token is None:
            raise HubError(401, "Invalid username or password.")
        organizations = [
            {"type": "org", "id": f"o-{name}", "name": name, "fullname": name, "roleInOrg": members[token.user]}
            for name, members in ORGANIZATIONS.items()
            if token.user in members
        ]
        access: dict[str, Any] = {"displayName": "test", "role": token.role, "createdAt": now()}
        if token.role == "fineGrained":
            access["fineGrained"] = {"global": [], "canReadGatedRepos": False, "scoped": [
                {"entity": {"_id": name, "type": kind, "name": name}, "permissions": ["repo.content.read", "repo.write"]}
                for kind, name in token.scopes
            ]}  # fmt: skip
        return JSONResponse({
            "type": "user", "id": f"u-{token.user}", "name": token.user, "fullname": token.user.title(), "isPro": False,
            "email": f"{token.user}@example.org", "emailVerified": True, "canPay": False, "avatarUrl": "",
            "orgs": organizations, "auth": {"type": "access_token", "accessToken": access},
        })  # fmt: skip
