"""Azure Machine Learning: all its controls, and the catalogue's rows that are none."""

from __future__ import annotations

from detectors import ml_assets, ml_computes, ml_endpoints, ml_parts, ml_workspaces

CONTROLS = (
    *ml_workspaces.CONTROLS, *ml_parts.CONTROLS, *ml_computes.CONTROLS, *ml_endpoints.CONTROLS, *ml_assets.CONTROLS,
)

LEFT_OUT: tuple[tuple[str, str], ...] = (
    ("ml-workspace-diagnostic-logs", "diag-ml-workspace judges the same, and the destination besides"),
    ("ml-compute-instance-root-access",
     "enableRootAccess is in previews only: the pinned version need not show it, and absent would pass for compliant"),
)
