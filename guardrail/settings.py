"""The app settings of one worker, checked before any event is looked at. Given as a mapping; app.py passes os.environ.

Which host gets our token is decided here and nowhere else: by the name of a cloud, or, outside Azure only, a loopback
address while the credential too comes from loopback (the simulator).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from guardrail import ids
from guardrail.errors import ConfigError
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.values import Mode

PREFIX = "GUARDRAIL_"
QUEUE = "Work__queueServiceUri"
LOCAL_GROUP = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/guardrail")


class Cloud(NamedTuple):
    """Hosts as azure-mgmt-core 1.6 (get_arm_endpoints) and azure-identity 1.27 (AzureAuthorityHosts) have them."""

    arm_endpoint: str
    arm_audience: str           # the scope asked for is this + "/.default"
    authority: str


CLOUDS = {
    "AzureCloud": Cloud("https://management.azure.com", "https://management.azure.com", "login.microsoftonline.com"),
    "AzureUSGovernment": Cloud("https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net",
                               "login.microsoftonline.us"),
    "AzureChinaCloud": Cloud("https://management.chinacloudapi.cn", "https://management.chinacloudapi.cn",
                             "login.chinacloudapi.cn"),
}
# what the Functions host itself asks to know where it runs: App Service plans; Linux containers; Flex Consumption
AZURE_MARKS = ("WEBSITE_INSTANCE_ID", "WEBSITE_SITE_NAME", "LEGION_SERVICE_HOST")

_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_LOOPBACK = r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?"
_HTTPS = r"https://[a-z0-9.-]+(?::[0-9]{1,5})?"
# DNS suffixes of Key Vault and its managed HSMs, as the three clouds have them
_KEY = r"https://[a-z0-9-]{3,24}\.(?:vault|managedhsm)\.(?:azure\.net|azure\.cn|usgovcloudapi\.net)/keys/[\w-]+(?:/[0-9a-z]{1,32})?"
IN_VAULT = r"https://[a-z0-9-]{3,24}\.vault\.(?:azure\.net|azure\.cn|usgovcloudapi\.net)/secrets/[\w-]+(?:/[0-9a-z]{1,32})?"
_FIELD = r"[0-9a-z*/,-]+"


@dataclass(frozen=True, slots=True)
class Settings:
    """See docs/reference/settings.md; ids are folded, "" is not set."""

    subscriptions: frozenset[str]
    part: Literal["front", "hands", "all"] = "all"
    ceiling: Mode = "report"
    management_groups: tuple[str, ...] = ()
    tenant: str = ""
    group: ResourceId = LOCAL_GROUP
    cloud: str = "AzureCloud"
    arm_endpoint: str = CLOUDS["AzureCloud"].arm_endpoint
    arm_audience: str = CLOUDS["AzureCloud"].arm_audience
    authority: str = CLOUDS["AzureCloud"].authority
    policy: str = "guardrail.yaml"
    store: str = ".run/guardrail.db"
    queue: str = ""
    front_key: str = ""
    hands_key: str = ""
    anchors: str = ""
    dead_letters: str = ""
    audience: str = ""
    approvers: str = ""
    principals: frozenset[str] = frozenset()
    url: str = ""
    teams: str = field(default="", repr=False)
    slack: str = field(default="", repr=False)
    webhook: str = field(default="", repr=False)
    webhook_key: str = field(default="", repr=False)
    topic: str = ""
    sweep: str = "0 17 * * * *"
    probe: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    in_azure: bool = False

    @property
    def is_simulated(self) -> bool:
        return self.cloud not in CLOUDS

    @property
    def probes(self) -> bool:
        """Whether this part tags our group; without one that somebody named, only where there is no real Azure."""
        return self.probe and self.part != "front" and (self.is_simulated or self.group != LOCAL_GROUP)

    @property
    def has_tables(self) -> bool:
        """Whether the store is Azure's and not a file."""
        return "://" in self.store

    @property
    def bodies(self) -> str:
        """The container for what is too large for a row: in the tables' own account, whose blob service it names."""
        at = urlsplit(self.store)
        if self.has_tables and ".table." in at.netloc:
            return f"{at.scheme}://{at.netloc.replace('.table.', '.blob.', 1)}/bodies"
        return f"{self.anchors.rpartition('/')[0]}/bodies" if self.anchors else ""


# name -> (what fits, folded; how to say it). Secrets and free text are not here
_FORMS: Mapping[str, tuple[str, str]] = {
    "PART": ("front|hands|all", "front, hands or all"),
    "CEILING": ("report|approve|enforce", "report, approve or enforce"),
    "SUBSCRIPTIONS": (rf"\s*{_GUID}\s*(?:,\s*{_GUID}\s*)*", "subscription ids, comma-separated"),
    "MANAGEMENT_GROUPS": (r"\s*[\w.()-]{1,90}\s*(?:,\s*[\w.()-]{1,90}\s*)*", "management group names, comma-separated"),
    "TENANT": (_GUID, "the tenant's id"),
    "STORE": (rf"[^:]+|(?:{_HTTPS}|{_LOOPBACK})[^\s?#@]*", "a file, or the https address of a table endpoint"),
    "FRONT_KEY": (_KEY, "a Key Vault key id, https://VAULT.vault.azure.net/keys/NAME"),
    "HANDS_KEY": (_KEY, "a Key Vault key id, https://VAULT.vault.azure.net/keys/NAME"),
    "ANCHORS": (rf"(?:{_HTTPS}|{_LOOPBACK})/[^\s?#@]+", "a container's https address"),
    "DEAD_LETTERS": (rf"(?:{_HTTPS}|{_LOOPBACK})/[^\s?#@]+", "a container's https address"),
    "APPROVERS": (_GUID, "a group's object id"),
    "PRINCIPALS": (rf"\s*{_GUID}\s*(?:,\s*{_GUID}\s*)*", "object ids, comma-separated"),
    "URL": (rf"(?:{_HTTPS}|{_LOOPBACK})/?", "the console's https address, without a path"),
    "TOPIC": (rf"{_HTTPS}/[^\s?#@]+", "a topic's https endpoint"),
    **dict.fromkeys(("TEAMS", "SLACK", "WEBHOOK"), (rf"{_HTTPS}/[^\s#]*", "an https address")),
    "SWEEP": (rf"{_FIELD}(?: {_FIELD}){{5}}", "six fields: second minute hour day month weekday"),
    "PROBE": ("on|off", "on or off"),
    "LOG_LEVEL": ("debug|info|warning|error", "debug, info, warning or error"),
}
_FREE = ("GROUP", "CLOUD", "POLICY", "AUDIENCE", "WEBHOOK_KEY")
NAMES = (*_FORMS, *_FREE)
SECRET = ("TEAMS", "SLACK", "WEBHOOK", "WEBHOOK_KEY")
_FOLDED = ("PART", "CEILING", "TENANT", "APPROVERS", "LOG_LEVEL")


def read(environment: Mapping[str, str]) -> Settings:
    """The settings, or the first thing that is wrong with them. Errors: ConfigError."""
    given = {name.removeprefix(PREFIX): text.strip() for name, text in environment.items() if name.startswith(PREFIX)}
    for name in sorted(given):
        if name not in NAMES:
            raise _bad(name, given[name], "there is no such setting; see docs/reference/settings.md.")
    given = {name: text for name, text in given.items() if text}
    for name, text in given.items():
        _fits(name, text)
    in_azure = any(environment.get(mark) for mark in AZURE_MARKS)
    cloud = given.get("CLOUD", "AzureCloud")
    endpoint = _endpoint(cloud, environment, in_azure=in_azure)
    values = {name.lower(): fold(text) if name in _FOLDED else text for name, text in given.items()}
    for name in ("SUBSCRIPTIONS", "GROUP", "PROBE", "CLOUD", "MANAGEMENT_GROUPS", "PRINCIPALS"):
        values.pop(name.lower(), None)
    queue = environment.get(QUEUE, "").strip()
    settings = Settings(
        subscriptions=frozenset(_listed(given.get("SUBSCRIPTIONS", ""))),
        principals=frozenset(_listed(given.get("PRINCIPALS", ""))),
        management_groups=tuple(_listed(given.get("MANAGEMENT_GROUPS", ""))),
        group=_group(given.get("GROUP", LOCAL_GROUP)), probe=fold(given.get("PROBE", "on")) == "on",
        cloud=cloud, queue=queue, in_azure=in_azure, **endpoint._asdict(), **values,    # type: ignore[arg-type]
    )
    for name, why in _missing(settings, given):
        raise ConfigError("app settings", name, "not set", why)
    return settings


def _bad(name: str, value: object, cure: str) -> ConfigError:
    return ConfigError("app settings", PREFIX + name, "(not shown)" if name in SECRET else value, cure)


def _fits(name: str, text: str) -> None:
    if fold(text).startswith("@microsoft.keyvault("):
        raise _bad(name, text, "this reference did not resolve: on Flex Consumption none reaches a closed vault. Write the id "
                   "of the secret, https://VAULT.vault.azure.net/secrets/NAME, and grant hands Key Vault Secrets User on it.")
    form, said = _FORMS.get(name, (".*", ""))
    if not re.fullmatch(form, fold(text), re.ASCII | re.DOTALL):
        raise _bad(name, text, f"write {said}.")
    if not text.isprintable() or len(text) > 2048:
        raise _bad(name, "not one line of text", "write it again by hand.")


def _listed(text: str) -> Iterable[str]:
    return (fold(part.strip()) for part in text.split(",") if part.strip())


def _group(text: str) -> ResourceId:
    if ids.soundest(text) != text or not ids.group(ResourceId(text)) or text.count("/") != 4:
        raise _bad("GROUP", text, "write /subscriptions/GUID/resourceGroups/NAME.")
    return ResourceId(text)


def _endpoint(cloud: str, environment: Mapping[str, str], *, in_azure: bool) -> Cloud:
    """The hosts of a cloud. A real one never meets the simulator's credential, nor the simulator a real one (G4)."""
    # in Azure the platform's own identity endpoint is on loopback as well
    identity = fold(environment.get("IDENTITY_ENDPOINT", ""))
    is_fake = not in_azure and re.match(_LOOPBACK + r"(?:/|\Z)", identity) is not None
    if cloud in CLOUDS:
        if is_fake:
            raise _bad("CLOUD", cloud, "IDENTITY_ENDPOINT is the simulator's: unset it, or name the simulator here.")
        return CLOUDS[cloud]
    if not re.fullmatch(_LOOPBACK + "/?", fold(cloud), re.ASCII):
        raise _bad("CLOUD", cloud, f"write {', '.join(CLOUDS)}, or the simulator's loopback address.")
    if in_azure:
        raise _bad("CLOUD", cloud, f"in Azure write {', '.join(CLOUDS)}.")
    if not is_fake:
        raise _bad("CLOUD", cloud, "a loopback address needs IDENTITY_ENDPOINT on loopback too: set both or neither.")
    base = cloud.rstrip("/")
    return Cloud(base, CLOUDS["AzureCloud"].arm_audience, urlsplit(base).netloc)


def _missing(settings: Settings, given: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    if not settings.subscriptions:
        yield PREFIX + "SUBSCRIPTIONS", "name the subscriptions to guard: nothing else is looked at."
    if settings.has_tables and not settings.queue:
        yield QUEUE, "with a table store the queue's address is needed."
    is_emulated = re.match(_LOOPBACK, fold(settings.store)) is not None
    for name in ("FRONT_KEY", "HANDS_KEY"):
        if settings.has_tables and not is_emulated and name not in given:
            yield PREFIX + name, "with a table store the Key Vault key is needed that signs for this part."
    for name in ("TENANT", "GROUP") if settings.in_azure else ():
        if name not in given:
            yield PREFIX + name, "mandatory in Azure."
    if settings.webhook and not settings.webhook_key:
        yield PREFIX + "WEBHOOK_KEY", "name the key that signs what goes to your webhook: by nothing else can it know us."
    if settings.in_azure and settings.part != "hands" and "AUDIENCE" not in given:
        yield PREFIX + "AUDIENCE", "mandatory in Azure: what the console's tokens must be for."
