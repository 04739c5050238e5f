"""Who may ask for what: tokens in a call's metadata."""

import hmac

SESSION_TOKEN_KEY = "hsplit-session-token"
OPERATOR_TOKEN_KEY = "hsplit-operator-token"


def token_metadata(key: str, token: str) -> tuple[tuple[str, str], ...]:
    """A call's metadata that carries a token."""
    return ((key, token),)


def is_same_token(got: str, wanted: str) -> bool:
    """Whether a token is the one that is wanted, in a time that tells nothing of it."""
    return hmac.compare_digest(got.encode(), wanted.encode())
