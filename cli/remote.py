"""A guardrail elsewhere: which one, asked over HTTP with the token of az's sign-in.

The token goes over https to the host that was named here and to no other: no redirect is followed, what it is for is
never taken from an answer, and an embedded run (http, loopback) takes none. azd's values (`.azure/<environment>/.env`, as
azd writes it) are read beside this very code only: a folder that somebody else filled must not say where a token goes.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from cli.output import Code, Ended
from guardrail.errors import ConfigError, Unanswered, Unavailable

LOOPBACK = ("127.0.0.1", "localhost", "::1")
CONNECT_S, SILENCE_S = 15, 120      # until connected; without a byte of the answer
BESIDE = Path(__file__).resolve().parent.parent / ".azure"

Sink = Callable[[int, bytes], object]       # takes the status, and a piece of the answer


@dataclass(slots=True)
class Chosen:
    """What the line says of the target; set once by main()."""

    url: str = ""
    is_local: bool = False
    is_sure: bool = False           # --yes


chosen = Chosen()


def setting(name: str) -> tuple[str, str]:
    """(text, where it stands) of what the environment says, else azd's."""
    if os.environ.get(name):
        return os.environ[name].strip(), "environment"
    return _azd().get(name, ""), "azd environment"


def _azd() -> Mapping[str, str]:
    """Of azd's environment that AZURE_ENV_NAME names, else of its default one; empty where there is none."""
    try:
        config = (BESIDE / "config.json").read_bytes()
        name = os.environ.get("AZURE_ENV_NAME") or msgspec.json.decode(config)["defaultEnvironment"]
        text = (BESIDE / Path(name).name / ".env").read_text("utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, _, value in re.findall(r'^(\w+)=("?)(.*?)\2\s*$', text, re.MULTILINE)}


def url() -> str:
    """The address that was chosen, as scheme and host; "" for the local store. Errors: ConfigError."""
    given, where = (chosen.url, "command line") if chosen.url else setting("GUARDRAIL_URL")
    if chosen.is_local or not given:
        return ""
    try:
        at = urlsplit(given)
        host, port = at.hostname or "", at.port
    except ValueError:
        at, host, port = urlsplit(""), "", None
    is_plain = at.scheme == "http" and host in LOOPBACK
    if not (at.scheme == "https" or is_plain) or not re.fullmatch(r"[a-z0-9.:-]+", host) or at.path not in ("", "/") or (
            at.username is not None or at.query or at.fragment):
        raise ConfigError(where, "--url" if chosen.url else "GUARDRAIL_URL", given,
                          "write https:// and the guardrail's host, without a path; or http:// and a loopback one.")
    return f"{at.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


@dataclass(slots=True)
class Remote:
    """`audience`: what the token is for; "" for an embedded run, which takes none."""

    url: str
    audience: str
    _token: str = ""
    _trusted: ssl.SSLContext | None = None

    async def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, sink: Sink) -> int:
        """One request, whose answer goes to `sink`; its status. Errors: Ended, Unavailable, Unanswered (a change)."""
        import aiohttp
        from yarl import URL

        headers = {**headers, **await self._authorization()}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
        self._trusted = self._trusted or ssl.create_default_context()     # SSL_CERT_FILE of the environment counts
        connector, jar = aiohttp.TCPConnector(force_close=True, ssl=self._trusted), aiohttp.DummyCookieJar()
        try:
            async with aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=jar) as session, session.request(
                    method, URL(self.url + path, encoded=True), headers=headers, data=body or None, allow_redirects=False,
                    proxy=self._proxy()) as answer:
                async for piece in answer.content.iter_any():
                    sink(answer.status, piece)
                return answer.status
        except aiohttp.ClientConnectorError as error:
            raise Unavailable(f"{self.url} cannot be reached: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            told = f"{self.url} did not answer to the end: {type(error).__name__}"
            if method == "GET":
                raise Unavailable(told) from error
            raise Unanswered(f"{told}. Whether it was taken is not known. cure: list first, before you ask again") from error

    def _proxy(self) -> str | None:
        """One of the environment may stand before Azure, where it sees no token; never before loopback."""
        at = urlsplit(self.url)
        is_direct = at.scheme != "https" or urllib.request.proxy_bypass(at.hostname or "")
        return None if is_direct else urllib.request.getproxies().get("https")

    async def _authorization(self) -> dict[str, str]:
        if self.audience and not self._token:
            self._token = await _token(self.audience)
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


async def _token(audience: str) -> str:
    """Of whom az is signed in as. Errors: Ended without a sign-in, ConfigError for an odd audience or tenant."""
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity.aio import AzureCliCredential

    tenant, where = setting("GUARDRAIL_TENANT")
    logging.getLogger("azure.identity").setLevel(logging.ERROR)     # what it would warn of is in our own words below
    try:
        async with AzureCliCredential(tenant_id=tenant) as credential:
            token: str = (await credential.get_token(f"{audience}/.default")).token
            return token
    except ValueError as error:
        raise ConfigError(where, "GUARDRAIL_AUDIENCE or GUARDRAIL_TENANT", f"{audience}, {tenant or 'none'}",
                          "write the app's application id URI, and the tenant's id.") from error
    except ClientAuthenticationError as error:
        cure = f"cure: az login{f' --tenant {tenant}' if tenant else ''} --scope {audience}/.default"
        why = str(error).partition("\n")[0]
        raise Ended(Code.UNFINISHED, f"no token of az's sign-in for {audience}: {why}  {cure}") from error


def remote(base: str) -> Remote:
    """The guardrail at `base`. Errors: ConfigError where nothing says what its tokens are for."""
    if base.startswith("http:"):
        return Remote(base, "")
    audience = setting("GUARDRAIL_AUDIENCE")[0]
    if not audience:
        raise ConfigError("environment", "GUARDRAIL_AUDIENCE", "", f"set it to the application id URI of {base}, "
                          "which its tokens are for. No answer is trusted with that.")
    return Remote(base, audience)
