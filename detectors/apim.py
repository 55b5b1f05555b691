"""The AI gateway: what the policy of an API Management API does before a request reaches a model.

A policy is XML text. It is read and never written anew: what is wanted is the whole text that was known good. Only the
API's own policy is read, so what a product, an operation or the service adds or takes away is not seen. Element names and
attributes: Microsoft's policy reference; the shape of a policy: published types of 2024-05-01.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from detectors import floors
from guardrail.documents import Node
from guardrail.paths import fold
from guardrail.values import Control, Drift, Parameters

API = "Microsoft.ApiManagement/service/apis"
POLICIES = "+policies"
VALUE = "properties.value"
LONGEST = 256 * 1024        # characters; past either of these a policy is not followed
MOST_ELEMENTS = 10_000
MOST_TOKENS = 1_000_000     # a minute: past that it is no limit

HOSTS = ("openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com")
LIMITS = ("azure-openai-token-limit", "llm-token-limit")
SECRET_HEADERS = ("api-key", "authorization", "x-api-key")


@dataclass
class Policy:
    """What a policy's text says, as far as it is judged."""

    inbound: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)      # what every request passes, in order
    backends: list[Mapping[str, str]] = field(default_factory=list)                 # set-backend-service, anywhere
    holds_key: bool = False                 # a header with a literal secret, anywhere


class _Reader:
    """Follows the elements of one policy; a document type, with its entities, is refused."""

    def __init__(self) -> None:
        self.policy = Policy()
        self._path = list[str]()
        self._header, self._text, self._count = "", "", 0

    def read(self, text: str) -> Policy | None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        try:
            parser.Parse(text, True)
        except (expat.ExpatError, ValueError):
            return None
        return self.policy

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS:
            raise ValueError("too many elements")
        if self._path == ["policies", "inbound"]:
            self.policy.inbound.append((name, attributes))
        self._path.append(name)
        if name == "set-backend-service":
            self.policy.backends.append(attributes)
        if name == "set-header":
            self._header = fold(attributes.get("name", ""))
        self._text = ""

    def _characters(self, text: str) -> None:
        self._text += text

    def _end(self, name: str) -> None:
        self._path.pop()
        if name == "value" and self._header in SECRET_HEADERS and not _is_reference(self._text):
            self.policy.holds_key = True
        if name == "set-header":
            self._header = ""

    def _refuse(self, *_: Any) -> None:
        raise ValueError("a policy has no document type")


def _is_reference(text: str) -> bool:
    """A named value or an expression: no secret stands in the text itself."""
    text = text.strip()
    return not text or "{{" in text or text.startswith("@")


@lru_cache(maxsize=256)
def policy_of(text: str) -> Policy | None:
    """What `text` says; None if it is no XML, too large, or has a document type."""
    return _Reader().read(text) if len(text) <= LONGEST else None


Fine = Callable[[Policy, Parameters], bool]


def is_limited(policy: Policy, p: Parameters) -> bool:
    """Whether every request passes a token limit of so many a minute. A condition around it, or a quota alone, is none."""
    limits = [_number(said.get("tokens-per-minute", "")) for name, said in policy.inbound if name in p["required_policy_names"]]
    return any(0 < limit <= p["max_tokens_per_minute"] for limit in limits)


def _number(text: str) -> int:
    return int(text) if len(text) < 10 and text.isascii() and text.isdigit() else 0


def is_screened(policy: Policy, p: Parameters) -> bool:
    """Whether every request passes all required elements, and no key stands in the text."""
    passed = {name for name, _ in policy.inbound}
    return not policy.holds_key and passed >= set(p["required_elements"])


def kept(fine: Fine) -> Callable[[Node, Parameters], Iterator[Drift]]:
    """The check that each API of a model has a policy that is fine."""
    def check(api: Node, p: Parameters) -> Iterator[Drift]:
        """Drift while an API that leads to a model lacks it in its own policy (or, if a parameter says so, includes the
        one above). Wanted is the text that was known good, if it had it; else a person decides. Whether an API leads to
        a model is told by its serviceUrl, its backends, and by what its policy was.
        """
        policies = [one for one in api.items(POLICIES, "name") if one.text("name") == "policy"]
        text = policies[0].get(VALUE) if policies else ""
        good = next((one.get(VALUE) for one in api.known_good.items(POLICIES, "name")), "")
        now, was = (policy_of(one if isinstance(one, str) else "") or Policy() for one in (text, good))
        was_fine = fine(was, p)
        if not was_fine and not _leads_to_model(api, now, p):
            return
        if fine(now, p) or (p["base_is_enough"] and not now.holds_key and ("base", {}) in now.inbound):
            return
        yield from _put_back(api, policies, text, good if was_fine and not was.holds_key else "", now.holds_key)
    return check


def _put_back(api: Node, policies: Sequence[Node], text: Any, good: str, has_key: bool) -> Iterator[Drift]:
    if has_key:     # plans and records show what stands there: no key gets into them
        at = f"{POLICIES}[name='policy'].{VALUE}"
        yield Drift(at, decided=False, note="a key stands in the policy: replace it by a named value")
    elif not policies and good:
        yield from api.missing(POLICIES, {"name": "policy", "properties": {"value": good}}, "name")
    elif not policies:
        yield from api.undecided(POLICIES, "the API has no policy, and none was ever known good")
    elif good and isinstance(text, str) and fold(text) != fold(good):
        yield from policies[0].expect(VALUE, one_of=(good,), known=(text,))
    else:
        yield from policies[0].undecided(VALUE, "the policy lacks it, and none was ever known good")


def _leads_to_model(api: Node, policy: Policy, p: Parameters) -> bool:
    addresses = [api.text("properties.serviceUrl"), *(said.get("base-url", "") for said in policy.backends)]
    named = {fold(name) for name in p["ai_backends"]}
    return (any(_host(one).endswith(tuple(f".{fold(suffix)}" for suffix in p["ai_host_suffixes"])) for one in addresses)
            or any(fold(said.get("backend-id", "")) in named for said in policy.backends))


_ADDRESS = re.compile(r"https?://(?:[^/?#@\\\s]*@)?([^/:?#@\\\s]+)", re.ASCII)


def _host(address: str) -> str:
    found = _ADDRESS.match(fold(address))
    return f".{found[1].rstrip('.')}" if found else ""


def _suffixes(value: Any) -> str:
    """Floor: the hosts of Azure's models, and more."""
    return floors.hosts(value) or floors.keeps(*HOSTS)(value)


def _most_tokens(value: Any) -> str:
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS
    return "" if sound else f"must be a number from 1 to {MOST_TOKENS}"


def _elements(value: Any) -> str:
    sound = isinstance(value, (list, tuple)) and value and all(
        isinstance(one, str) and re.fullmatch(r"[a-z]+(?:-[a-z]+)+", one) for one in value)
    return "" if sound else "must be a list of policy elements such as llm-content-safety"


EVENTS = (f"{API}/write", f"{API}/policies/write", f"{API}/policies/delete")
WHERE: Parameters = {"ai_host_suffixes": HOSTS, "ai_backends": (), "base_is_enough": False}
WHERE_FLOORS: Mapping[str, Callable[[Any], str]] = {
    "ai_host_suffixes": _suffixes, "ai_backends": floors.names, "base_is_enough": floors.flag}
ASKS = "a policy is code that the gateway runs, and all of its text is put back"
_LIMIT = ('    <llm-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="20000"'
          ' estimate-prompt-tokens="true" />\n')
_IDENTITY = '    <authentication-managed-identity resource="https://cognitiveservices.azure.com" />\n'


def _sample(*statements: str) -> str:
    """A policy such as the good document holds."""
    inbound = "".join(("    <base />\n", *statements))
    return (f"<policies>\n  <inbound>\n{inbound}  </inbound>\n  <backend>\n    <base />\n  </backend>\n"
            "  <outbound>\n    <base />\n  </outbound>\n</policies>")


CONTROLS = (
    Control(
        "apim-openai-token-limit", kept(is_limited), on=API, severity="medium", response="revert",
        also_reads=(POLICIES,), learns=True, triggered_by=EVENTS,
        title="API of a model has a token limit",
        why="one key can spend the whole quota, and starve everybody else",
        breaks="callers above the limit, and whatever else was changed in the policy since", asks=ASKS,
        parameters={**WHERE, "max_tokens_per_minute": 50_000, "required_policy_names": LIMITS},
        floors={**WHERE_FLOORS, "max_tokens_per_minute": _most_tokens, "required_policy_names": floors.some_of(LIMITS)},
        drift={f"{POLICIES}[name='policy'].{VALUE}": _sample(_IDENTITY)},
    ),
    Control(
        "apim-openai-content-safety", kept(is_screened), on=API, severity="medium", response="revert",
        also_reads=(POLICIES,), learns=True, triggered_by=EVENTS,
        title="API of a model signs in by identity and screens prompts",
        why="prompts reach the model unscreened, or with a key that everybody shares",
        breaks="callers while the policy rolls out, and whatever else was changed in it since", asks=ASKS,
        parameters={**WHERE, "required_elements": ("authentication-managed-identity",)},
        floors={**WHERE_FLOORS, "required_elements": _elements},
        drift={f"{POLICIES}[name='policy'].{VALUE}": _sample(_LIMIT)},
    ),
)

LEFT_OUT: tuple[tuple[str, str], ...] = ()
