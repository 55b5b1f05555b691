"""Groups and subscriptions, which hold the rest; the settings of an app, which only an action shows."""

from __future__ import annotations

from simulator.types.habits import Answer, Habits
from simulator.types.security import PLANS, SECURITY

TYPES: tuple[Habits, ...] = (
    Habits(
        "Microsoft.Resources/subscriptions",
        patch=None,
        can_delete=False,
        state="",
        system_data="",
        brings=(
            *(f"providers/{SECURITY}/pricings/{name}" for name in PLANS),
            f"providers/{SECURITY}/autoProvisioningSettings/default",
        ),
        version="2022-12-01",
    ),
    Habits(
        "Microsoft.Resources/resourceGroups",
        delete=Answer(202, "loc", body=""),
        missing="ResourceGroupNotFound",
        system_data="",
        version="2024-11-01",
    ),
    # WebApps_ListApplicationSettings (Microsoft.Web 2025-03-01): POST …/config/appsettings/list
    Habits("Microsoft.Web/sites/config", state="", tells="list", version="2025-03-01"),
)
