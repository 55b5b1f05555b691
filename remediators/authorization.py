"""How ARM reads and writes role assignments."""

from __future__ import annotations

from guardrail.values import COMMON, ResourceType, Route

ROLE_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
SERVER_WRITTEN = tuple(f"properties.{name}" for name in ("scope", "createdOn", "updatedOn", "createdBy", "updatedBy"))

TYPES = (
    # DELETE only, under the hands' opt-in tier. The right to write assignments is never held, so nothing creates one:
    # the undo of a removal is a command for a person (PUT of the recorded body).
    ResourceType(ROLE_ASSIGNMENT, "2022-04-01", (Route(delete=True, readonly=(*COMMON, *SERVER_WRITTEN)),),
                 born="properties.createdOn"),
)
