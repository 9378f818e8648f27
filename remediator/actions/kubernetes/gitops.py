"""Who else would put a field back: Argo CD or Flux, by the marks they leave on what they manage. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from remediator.actions.kubernetes.cluster import Object
from remediator.errors import Refused

_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux",
    "helm-controller": "Flux",
}
_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}
_ANNOTATIONS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/installation-id": "Argo CD",
}
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def owner(object_: Object) -> str:
    """`Argo CD` or `Flux` where one of them manages the object, else empty."""
    meta = object_["metadata"]
    annotations = meta.get("annotations") or {}
    if annotations.get("kustomize.toolkit.fluxcd.io/reconcile") == "disabled":
        return ""
    marks = [
        *(tool for label, tool in _LABELS.items() if label in (meta.get("labels") or {})),
        *(tool for annotation, tool in _ANNOTATIONS.items() if annotation in annotations),
        *(_MANAGERS[e["manager"]] for e in meta.get("managedFields") or () if e.get("manager") in _MANAGERS),
    ]
    return marks[0] if marks else ""


def reverts(object_: Object, *path: str) -> str:
    """The tool that would put the field at `path` back, else empty.

    A tool that records which fields it sets (by server-side apply, or by the last applied configuration)
    leaves the others alone, as with replicas that an autoscaler owns; one that records nothing is taken to
    own them all.
    """
    tool = owner(object_)
    if not tool:
        return ""
    records = [
        _has(entry.get("fieldsV1") or {}, [f"f:{part}" for part in path])
        for entry in object_["metadata"].get("managedFields") or ()
        if entry.get("manager") in _MANAGERS and entry.get("operation") == "Apply"
    ]
    applied = (object_["metadata"].get("annotations") or {}).get(_LAST_APPLIED)
    if applied:
        try:
            records.append(_has(json.loads(applied), path))
        except ValueError:
            records.append(True)
    return tool if any(records) or not records else ""


def refuse_reverted(object_: Object, subject: str, *path: str) -> None:
    """Raise Refused where the change would be put back."""
    tool = reverts(object_, *path)
    if tool:
        raise Refused(f"{tool} owns {'.'.join(path)} of {subject} and would revert it: change it in Git")


def _has(tree: object, path: Iterable[str]) -> bool:
    for part in path:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True
