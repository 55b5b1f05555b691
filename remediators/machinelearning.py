"""How ARM reads and writes Azure Machine Learning: all its types."""

from __future__ import annotations

from remediators import ml_assets, ml_computes, ml_endpoints, ml_workspaces

TYPES = (*ml_workspaces.TYPES, *ml_computes.TYPES, *ml_endpoints.TYPES, *ml_assets.TYPES)
