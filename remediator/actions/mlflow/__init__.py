"""MLflow: typed actions on the registered models that a connection allows. No version is ever deleted."""

from remediator.actions.mlflow.alias import SetAlias, SetAliasParams
from remediator.actions.mlflow.archive import Archive, ArchiveParams
from remediator.actions.mlflow.block import BlockPromotion, BlockPromotionParams
from remediator.actions.mlflow.registry import MlflowConnection, Model, Version

__all__ = [
    "Archive",
    "ArchiveParams",
    "BlockPromotion",
    "BlockPromotionParams",
    "MlflowConnection",
    "Model",
    "SetAlias",
    "SetAliasParams",
    "Version",
]
