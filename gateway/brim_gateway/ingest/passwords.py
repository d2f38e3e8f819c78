"""Passwords of bins: made, hashed, verified. CPU-bound: call ``hash_password`` and ``verify`` in a worker thread."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets

# 4 MiB and about 15 ms: a cabinet's bins come together after a power cut, and the passwords made here have 128 bits.
_N, _R, _P = 2**12, 8, 1
MAX_PASSWORD_BYTES = 256


def new_password() -> str:
    """A new password: 128 random bits, 22 characters."""
    return secrets.token_urlsafe(16)


def hash_password(password: bytes) -> str:
    """``scrypt$N$r$p$salt$hash``."""
    salt = os.urandom(16)
    digest = hashlib.scrypt(password, salt=salt, n=_N, r=_R, p=_P, dklen=32)
    return "$".join(("scrypt", str(_N), str(_R), str(_P), _text(salt), _text(digest)))


def verify(password: bytes, stored: str) -> bool:
    """Whether ``password`` made ``stored``; False for a text that is no hash of ours."""
    try:
        name, n, r, p, salt, digest = stored.split("$")
        if name != "scrypt" or int(n) > 2**17 or int(r) > 16 or int(p) > 4:
            return False
        made = hashlib.scrypt(
            password[:MAX_PASSWORD_BYTES],
            salt=base64.b64decode(salt),
            n=int(n),
            r=int(r),
            p=int(p),
            dklen=32,
            maxmem=1 << 28,
        )
        return hmac.compare_digest(made, base64.b64decode(digest))
    except ValueError:
        return False


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
