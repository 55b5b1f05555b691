"""Who may do what: roles (S12), and the locks, deny assignments and policies that stand in the way (S11).

Roles are off until a principal is given one; from then on it has what it was given and nothing else. Locks and deny
assignments are resources of the world, so those that an actor writes through ARM hold as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID, uuid5

from simulator import identity, paths
from simulator.ids import GROUP, SUBSCRIPTION, ancestors, fold, is_resource, split, type_of
from simulator.wire import Effect, Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

LOCK, DENY = "Microsoft.Authorization/locks", "Microsoft.Authorization/denyAssignments"
_NAMESPACE = UUID("00000000-0000-0000-0000-0000000acce5")
Kind = Literal["Read", "Write", "Delete", "Action"]
_KINDS: Mapping[str, tuple[str, Kind]] = {
    "PUT": ("write", "Write"),
    "PATCH": ("write", "Write"),
    "DELETE": ("delete", "Delete"),
}


class Operation(NamedTuple):
    """What a request asks for in RBAC's words: the action, the resource (or scope) it is asked for, and its kind."""

    action: str
    id: str
    kind: Kind


def operation(method: str, path: str) -> Operation:
    """`PATCH …/storageAccounts/a` is Microsoft.Storage/storageAccounts/write on that account; a POST to a resource's
    child segment is its `/action`; reading a collection is a read of the type at the scope."""
    _, namespace, segments = split(path)
    if method == "POST":
        target, _, name = path.rpartition("/")
        if is_resource(path) and not namespace:
            target, name = path, "register"
        kind = type_of(target) if is_resource(target) else "/".join([namespace, *segments[:-1]]).strip("/")
        return Operation(f"{kind or namespace}/{name}/action", target, "Action")
    read: tuple[str, Kind] = ("read", "Read")
    verb, what = _KINDS.get(method, read)
    if is_resource(path):
        kind = type_of(path).replace(GROUP, f"{SUBSCRIPTION}/resourceGroups")
        return Operation(f"{kind}/{verb}", path, what)
    if namespace:
        return Operation("/".join([namespace, *segments[::2], verb]), path.rsplit("/", 1)[0], what)
    tail = fold(path.rsplit("/", 1)[-1])
    listed = {
        "resourcegroups": f"{SUBSCRIPTION}/resourceGroups",
        "subscriptions": SUBSCRIPTION,
        "resources": f"{SUBSCRIPTION}/resources",
    }
    return Operation(f"{listed.get(tail, SUBSCRIPTION)}/{verb}", path.rsplit("/", 1)[0], what)


@dataclass(slots=True)
class Grant:
    """One role of one principal at one scope, from `since` on. `actions` and `not_actions` may hold `*`."""

    principal: str
    scope: str
    since: float
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()


@dataclass(slots=True)
class Policy:
    """One rule of Azure Policy: on writes below `scope` (of `type`, if given) look at `path`."""

    scope: str
    effect: Literal["deny", "modify", "append"]
    path: str
    value: Any
    type: str = ""
    where: Callable[[Any], bool] | None = None
    name: str = "policy"

    @property
    def id(self) -> str:
        return f"{self.scope}/providers/Microsoft.Authorization/policyAssignments/{self.name}"


def covers(patterns: Sequence[str], action: str) -> bool:
    """RBAC's wildcards, without case: `*/read`, `Microsoft.Storage/*`."""
    return any(fnmatchcase(fold(action), fold(pattern)) for pattern in patterns)


def within(id: str, scope: str) -> bool:
    return scope in ("", "/") or f"{fold(id)}/".startswith(f"{fold(scope).rstrip('/')}/")


@dataclass(slots=True)
class Access:
    """The gate between the token and the resource. `refuse` is asked for every request that carries a good token."""

    sim: Simulator
    grants: list[Grant] = field(default_factory=list)
    revoked: list[Grant] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)

    # S12

    def rbac(
        self,
        role: Mapping[str, Any] | str | Path,
        principal: str = "guardrail",
        scope: str = "",
        grant_lag_s: float = 0.0,
    ) -> None:
        """Gives `principal` (an actor's name or object id) this role and, with its first one, takes all else away.

        `role`: `{"actions": […], "notActions": […]}`, a role definition as ARM shows it, or a file of either. `scope`:
        "" is everything. The grant works `grant_lag_s` seconds later, as Azure's do."""
        given: Any = role if isinstance(role, Mapping) else json.loads(Path(role).read_text(encoding="utf-8"))
        body = given.get("properties", given)
        since = self.sim.clock() + grant_lag_s
        for part in body.get("permissions") or [body]:
            actions, not_actions = tuple(part.get("actions") or ()), tuple(part.get("notActions") or ())
            self.grants.append(Grant(identity.actor(principal).oid, scope, since, actions, not_actions))

    def revoke(self, action: str, principal: str = "guardrail", scope: str = "") -> None:
        """Takes one action (wildcards allowed) away from `principal`, whatever its roles say."""
        self.revoked.append(Grant(identity.actor(principal).oid, scope, 0.0, (action,)))

    def may(self, oid: str, action: str, id: str) -> bool:
        """Whether roles let this principal do that there, now."""
        if any(cut.principal == oid and within(id, cut.scope) and covers(cut.actions, action) for cut in self.revoked):
            return False
        own = [grant for grant in self.grants if grant.principal == oid]
        now = self.sim.clock()
        return not own or any(
            grant.since <= now
            and within(id, grant.scope)
            and covers(grant.actions, action)
            and not covers(grant.not_actions, action)
            for grant in own
        )

    def permissions(self, oid: str, scope: str) -> list[dict[str, list[str]]]:
        """What `…/providers/Microsoft.Authorization/permissions` lists for this principal at a scope."""
        cut = [
            pattern
            for gone in self.revoked
            if gone.principal == oid and within(scope, gone.scope)
            for pattern in gone.actions
        ]
        own = [grant for grant in self.grants if grant.principal == oid]
        working = [grant for grant in own if grant.since <= self.sim.clock() and within(scope, grant.scope)]
        if not own:
            working = [Grant(oid, "", 0.0, ("*",))]
        return [
            {
                "actions": list(grant.actions),
                "notActions": [*grant.not_actions, *cut],
                "dataActions": [],
                "notDataActions": [],
            }
            for grant in working
        ]

    # S11

    def lock(
        self, scope: str, level: Literal["CanNotDelete", "ReadOnly"] = "CanNotDelete", name: str = "simulated"
    ) -> str:
        """A lock at `scope`, as if it always had been there; its id."""
        return self._make(f"{scope}/providers/{LOCK}/{name}", {"properties": {"level": level}})

    def deny_assignment(
        self,
        scope: str,
        actions: Sequence[str] = ("*/write", "*/delete", "*/action"),
        principals: Sequence[str] = (),
        name: str = "simulated",
    ) -> str:
        """A deny assignment at `scope` against these principals (none: everyone); its id."""
        who = [identity.actor(principal).oid for principal in principals] or ["00000000-0000-0000-0000-000000000000"]
        body = {
            "properties": {
                "denyAssignmentName": name,
                "permissions": [{"actions": list(actions), "notActions": []}],
                "principals": [{"id": oid} for oid in who],
                "scope": scope,
                "isSystemProtected": True,
            }
        }
        return self._make(f"{scope}/providers/{DENY}/{uuid5(_NAMESPACE, scope + name)}", body)

    def policy(
        self,
        scope: str,
        effect: Literal["deny", "modify", "append"],
        path: str = "",
        value: Any = None,
        *,
        type: str = "",
        where: Callable[[Any], bool] | None = None,
        name: str = "simulated",
    ) -> str:
        """Azure Policy below `scope`. deny: a write whose body has `value` at `path` (or `where(body)`) is refused;
        modify: the write sets `value` there; append: only where the body has nothing there. The assignment's id."""
        self.policies.append(Policy(scope, effect, path, value, type, where, name))
        return self.policies[-1].id

    def _make(self, id: str, body: dict[str, Any]) -> str:
        self.sim.seed(id, body)
        self._made.append(id)
        return id

    def clear(self) -> None:
        """No roles, no policies, and the locks and deny assignments made here are gone."""
        self.grants.clear()
        self.revoked.clear()
        self.policies.clear()
        for id in self._made:
            self.sim.world.delete(id, who="faults")
        self._made.clear()

    # the gate

    def refuse(self, request: Request) -> Response | None:
        """403 or 409 for what is not allowed; modify and append policies change the request's body here."""
        asked = operation(request.method, request.path)
        oid = str(request.claims.get("oid", ""))
        response = self._not_granted(asked, request, oid) or self._denied(asked, request, oid)
        if response is None and asked.kind != "Read":
            response = self._locked(asked) or self._disallowed(asked, request)
        if response is not None and asked.kind != "Read":
            response.effects.append(Effect(asked.id, type_of(asked.id), asked.kind, asked.action))
        return response

    def _not_granted(self, asked: Operation, request: Request, oid: str) -> Response | None:
        graph = "/microsoft.resourcegraph/" in fold(request.path)
        if graph or self.may(oid, asked.action, asked.id):
            return None  # Resource Graph answers everyone, with the rows that they may read
        return error(
            403,
            "AuthorizationFailed",
            f"The client '{request.actor}' with object id '{oid}' does not have authorization to perform action "
            f"'{asked.action}' over scope '{asked.id}' or the scope is invalid. "
            "If access was recently granted, please refresh your credentials.",
        )

    def _denied(self, asked: Operation, request: Request, oid: str) -> Response | None:
        for deny in self._above(asked.id, DENY):
            body = deny.body["properties"]
            named = {str(who.get("id", "")) for who in body.get("principals", [])}
            excluded = {str(who.get("id", "")) for who in body.get("excludePrincipals", [])}
            concerns = oid not in excluded and bool(named & {oid, "00000000-0000-0000-0000-000000000000"})
            if concerns and any(
                covers(part.get("actions", []), asked.action) and not covers(part.get("notActions", []), asked.action)
                for part in body.get("permissions", [])
            ):
                return error(
                    403,
                    "DenyAssignmentAuthorizationFailed",
                    f"The client '{request.actor}' with object id '{oid}' has permission to perform action "
                    f"'{asked.action}' on scope '{asked.id}'; however, the access is denied because of the deny "
                    f"assignment with name '{body.get('denyAssignmentName', '')}' and Id '{deny.id}' "
                    f"at scope '{body.get('scope', '')}'.",
                )
        return None

    def _locked(self, asked: Operation) -> Response | None:
        if fold(asked.action).startswith(fold(LOCK)):
            return None
        locks = list(self._above(asked.id, LOCK))
        if asked.kind == "Delete":
            locks += [item for item in self.sim.world.below(asked.id) if fold(item.type) == fold(LOCK)]
        for lock in locks:
            level = fold(str(lock.body.get("properties", {}).get("level", "")))
            if level == "readonly" or (level == "cannotdelete" and asked.kind == "Delete"):
                held = lock.id[: fold(lock.id).rfind("/providers/")]
                return error(
                    409,
                    "ScopeLocked",
                    f"The scope '{asked.id}' cannot perform {'delete' if asked.kind == 'Delete' else 'write'} "
                    f"operation because following scope(s) are locked: '{held}'. Please remove the lock and try again.",
                )
        return None

    def _above(self, id: str, type: str) -> Iterator[Any]:
        """Locks or deny assignments of a resource and of all that it stands in."""
        for scope in (id, *ancestors(id)):
            yield from self.sim.world.children(scope, type)

    def _disallowed(self, asked: Operation, request: Request) -> Response | None:
        rules = [
            rule
            for rule in self.policies
            if within(asked.id, rule.scope) and fold(rule.type) in ("", fold(type_of(asked.id)))
        ]
        if not rules or asked.kind != "Write":
            return None
        try:
            body = json.loads(request.body or b"{}")
        except ValueError:
            return None
        for rule in rules:
            if rule.effect == "modify" or (rule.effect == "append" and not paths.has(body, rule.path)):
                paths.write(body, rule.path, rule.value)
                request.body = json.dumps(body).encode()
        for rule in rules:
            hit = (
                rule.where(body)
                if rule.where
                else paths.has(body, rule.path) and paths.read(body, rule.path) == rule.value
            )
            if rule.effect == "deny" and hit:
                name = asked.id.rsplit("/", 1)[-1]
                info = {
                    "policyAssignmentId": rule.id,
                    "policyAssignmentName": rule.name,
                    "policyDefinitionEffect": "deny",
                }
                return error(
                    403,
                    "RequestDisallowedByPolicy",
                    f"Resource '{name}' was disallowed by policy. Policy identifiers: "
                    f'\'[{{"policyAssignment":{{"name":"{rule.name}","id":"{rule.id}"}}}}]\'.',
                    target=name,
                    additionalInfo=[{"type": "PolicyViolation", "info": info}],
                )
        return None
