"""API Management: APIs and their policies. From the published operations and their documented answers (2024-05-01)."""

from __future__ import annotations

from simulator.types.habits import Answer, Habits

SERVICE = "Microsoft.ApiManagement/service"

TYPES: tuple[Habits, ...] = (
    Habits(
        f"{SERVICE}/apis", new=Answer(201), existing=Answer(200), etag="header", state="", system_data="", version="2024-05-01"
    ),
    # one a scope, named `policy`; its text is told and taken as XML unless `format` says otherwise
    Habits(
        f"{SERVICE}/apis/policies",
        new=Answer(201),
        existing=Answer(200),
        patch=None,
        shown={"properties.format": "xml"},
        keep=(),
        etag="header",
        state="",
        system_data="",
        version="2024-05-01",
    ),
)
