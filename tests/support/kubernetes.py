"""A real Kubernetes control plane with RBAC on, whose nodes and pods are played by kwok.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones: controllers, admission,
evictions, disruption budgets and RBAC are theirs. kwok marks nodes and pods as running; no container starts.
"""

from __future__ import annotations

import itertools
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority, new_key
from tests.support.ports import free_port
from tests.support.processes import Server, program, tcp_answers
from tests.support.tools.build import tool
from tests.support.waiting import until

MERGE = "application/merge-patch+json"
_ISSUER = "https://kubernetes.default.svc"
_PLAIN_WATCHES = {"KUBE_FEATURE_WatchListClient": "false"}
"""Debian's etcd 3.4 cannot report progress, which the newer way to list and watch needs."""


class ApiError(RuntimeError):
    """The API server refused. The message has the status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class KubernetesCluster:
    """The control plane, its administrator's calls, and credentials with just the rights that a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.authority = Authority(folder / "pki")
        self._admin = self.authority.client("admin", "system:masters")
        self._tls = ssl.create_default_context(cafile=str(self.authority.certificate_file))
        self._tls.load_cert_chain(*self._admin)
        self._account_key = new_key(folder / "pki" / "accounts.key")
        self._numbers = itertools.count(1)
        self.etcd = self._make_etcd()
        self.api_server = self._make_api_server("kube-apiserver", self.port)
        self._spare_port = free_port()
        self.spare_url = f"https://127.0.0.1:{self._spare_port}"
        self.spare = self._make_api_server("spare-apiserver", self._spare_port)
        """A second API server of the same cluster, for a test to kill; the controllers use the first."""
        self._others = [self._make_controllers(), self._make_scheduler(), self._make_kwok()]

    def start(self) -> None:
        """Start everything and wait until controllers work, with two nodes that take pods."""
        for server in (self.etcd, self.api_server, *self._others):
            server.start()
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        until(lambda: self.call("GET", accounts)["items"], within=60, what="a controller's first work")
        for name in ("node-a", "node-b"):
            self.add_node(name)

    def stop(self) -> None:
        """Stop everything."""
        for server in (*reversed(self._others), self.spare, self.api_server, self.etcd):
            server.stop(within=2)

    # what the administrator does

    def call(
        self, method: str, path: str, body: Any = None, *, content_type: str = "", server: str | None = None
    ) -> Any:
        """Call the API as administrator and return its JSON. Raises ApiError."""
        kind = content_type or (MERGE if method == "PATCH" else "application/json")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            (server or self.url) + path, data=data, method=method, headers={"Content-Type": kind}
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._tls) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            told = json.loads(error.read() or b"{}")
            raise ApiError(error.code, told.get("message", "")) from error

    def get(self, path: str) -> Any:
        """The object there, or None."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def namespace(self) -> str:
        """Make a new namespace and return its name."""
        name = f"test-{next(self._numbers)}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda: self.get(path), within=30, what=f"the service account of {name}")
        return name

    def add_node(self, name: str, *, only_for: str = "", cordoned: bool = False) -> None:
        """Make a node and wait until kwok has made it ready.

        One that is `only_for` something takes no pods but those that tolerate the taint `home` of that value, and
        carries it as a label too.
        """
        taints = [{"key": "home", "value": only_for, "effect": "NoSchedule"}] if only_for else []
        home = {"home": only_for} if only_for else {}
        self.call(
            "POST",
            "/api/v1/nodes",
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **home}},
                "spec": {"unschedulable": cordoned, "taints": taints},
            },
        )
        until(lambda: self._takes_pods(name), within=30, what=f"the node {name}")

    def remove_node(self, name: str) -> None:
        """Delete a node and wait until it is gone."""
        self.call("DELETE", f"/api/v1/nodes/{name}")
        until(lambda: self.get(f"/api/v1/nodes/{name}") is None, within=30, what=f"the end of {name}")

    def _takes_pods(self, name: str) -> bool:
        node = self.call("GET", f"/api/v1/nodes/{name}")
        ready = any(
            c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions") or ()
        )
        waits = any("not-ready" in taint["key"] for taint in node["spec"].get("taints") or ())
        return ready and not waits

    # who may do what

    def admin_kubeconfig(self) -> Path:
        """A kubeconfig of the administrator."""
        certificate, key = self._admin
        return self._kubeconfig("admin", {"client-certificate": str(certificate), "client-key": str(key)})

    def kubeconfig_with(
        self, rules: Sequence[Mapping[str, Any]], *, home: str, server: str | None = None
    ) -> Path:
        """A kubeconfig of a new service account of the namespace `home` with exactly these rights.

        `rules` are as `Permissions.kubernetes` has them: those with a namespace become a Role there, the others
        a ClusterRole. `server` is another address of the API server.
        """
        name = f"limited-{next(self._numbers)}"
        self.call("POST", f"/api/v1/namespaces/{home}/serviceaccounts", {"metadata": {"name": name}})
        who = {"kind": "ServiceAccount", "name": name, "namespace": home}
        for namespace in {rule["namespace"] for rule in rules}:
            self._bind(name, namespace, who, [r for r in rules if r["namespace"] == namespace])
        return self.kubeconfig_of(name, rules, home=home, server=server)

    def kubeconfig_of(
        self, name: str, rules: Sequence[Mapping[str, Any]], *, home: str, server: str | None = None
    ) -> Path:
        """A kubeconfig of a service account that was bound to these rules, once they are known everywhere."""
        for rule in rules:
            self._await_right(f"system:serviceaccount:{home}:{name}", rule)
        asked = {"spec": {"expirationSeconds": 3600}}
        made = self.call("POST", f"/api/v1/namespaces/{home}/serviceaccounts/{name}/token", asked)
        return self._kubeconfig(name, {"token": made["status"]["token"]}, server=server)

    def apply(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Make these objects of RBAC, as `kubectl apply` does."""
        for document in documents:
            kind = f"{document['kind'].lower()}s"
            namespace = document["metadata"].get("namespace", "")
            where = f"/namespaces/{namespace}" if namespace else ""
            api = "/api/v1" if document["apiVersion"] == "v1" else f"/apis/{document['apiVersion']}"
            self.call("POST", f"{api}{where}/{kind}", document)

    def _bind(
        self, name: str, namespace: str, who: Mapping[str, str], rules: Sequence[Mapping[str, Any]]
    ) -> None:
        kind = "Role" if namespace else "ClusterRole"
        where = "/apis/rbac.authorization.k8s.io/v1" + (f"/namespaces/{namespace}" if namespace else "")
        plain = [{key: value for key, value in rule.items() if key != "namespace"} for rule in rules]
        self.call("POST", f"{where}/{kind.lower()}s", {"metadata": {"name": name}, "rules": plain})
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
        self.call(
            "POST",
            f"{where}/{kind.lower()}bindings",
            {"metadata": {"name": name}, "roleRef": reference, "subjects": [who]},
        )

    def _await_right(self, user: str, rule: Mapping[str, Any]) -> None:
        """Wait until the authoriser of every API server has seen the rule."""
        resource, _, part = rule["resources"][0].partition("/")
        asked = {
            "namespace": rule["namespace"],
            "verb": rule["verbs"][0],
            "group": rule["apiGroups"][0],
            "resource": resource,
            "subresource": part,
            "name": (rule.get("resourceNames") or [""])[0],
        }
        body = {"spec": {"user": user, "resourceAttributes": asked}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        until(
            lambda: self.call("POST", path, body)["status"]["allowed"], within=10, what=f"the right {asked}"
        )

    def _kubeconfig(self, name: str, user: Mapping[str, str], *, server: str | None = None) -> Path:
        at = {"server": server or self.url, "certificate-authority": str(self.authority.certificate_file)}
        path = self.folder / f"{name}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "here", "cluster": at}],
                    "users": [{"name": name, "user": dict(user)}],
                    "contexts": [{"name": name, "context": {"cluster": "here", "user": name}}],
                    "current-context": name,
                }
            )
        )
        return path

    # the programs

    def _make_etcd(self) -> Server:
        clients, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._etcd_url = clients
        argv = [
            program("etcd", package="etcd-server"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--log-level=warn",
        ]
        port = int(clients.rsplit(":", 1)[1])
        return Server(argv, name="etcd", folder=self.folder, ready=lambda: tcp_answers(port))

    def _make_api_server(self, name: str, port: int) -> Server:
        certificate, key = self.authority.server(name)
        argv = [
            str(tool("kube-apiserver")),
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.authority.certificate_file}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={_ISSUER}",
            f"--service-account-key-file={self._account_key}",
            f"--service-account-signing-key-file={self._account_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            "--feature-gates=WatchList=false",
        ]
        return Server(
            argv,
            name=name,
            folder=self.folder,
            ready=lambda: self._is_ready(port),
            within=180,
            env=_PLAIN_WATCHES,
        )

    def _is_ready(self, port: int) -> bool:
        try:
            url = f"https://127.0.0.1:{port}/readyz"
            with urllib.request.urlopen(url, timeout=2, context=self._tls) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _make_controllers(self) -> Server:
        kubeconfig = self._component("system:kube-controller-manager")
        port = free_port()
        argv = [
            str(tool("kube-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / 'controllers'}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._account_key}",
            f"--root-ca-file={self.authority.certificate_file}",
            "--pvclaimbinder-sync-period=1s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            # A busy machine must not make kwok's nodes look dead.
            "--node-monitor-grace-period=20m",
        ]
        return Server(
            argv,
            name="kube-controller-manager",
            folder=self.folder,
            ready=lambda: tcp_answers(port),
            within=60,
            env=_PLAIN_WATCHES,
        )

    def _make_scheduler(self) -> Server:
        kubeconfig = self._component("system:kube-scheduler")
        port = free_port()
        argv = [
            str(tool("kube-scheduler")),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder / 'scheduler'}",
            "--leader-elect=false",
        ]
        return Server(
            argv,
            name="kube-scheduler",
            folder=self.folder,
            ready=lambda: tcp_answers(port),
            within=60,
            env=_PLAIN_WATCHES,
        )

    def _make_kwok(self) -> Server:
        port = free_port()
        argv = [
            str(tool("kwok")),
            f"--config={Path(__file__).with_name('kwok.yaml')}",
            f"--kubeconfig={self.admin_kubeconfig()}",
            "--manage-all-nodes=true",
            "--cidr=10.0.0.1/8",
            "--node-ip=10.0.0.1",
            f"--server-address=127.0.0.1:{port}",
        ]
        return Server(
            argv,
            name="kwok",
            folder=self.folder,
            ready=lambda: tcp_answers(port),
            within=60,
            env=_PLAIN_WATCHES,
        )

    def _component(self, user: str) -> Path:
        certificate, key = self.authority.client(user)
        name = user.replace(":", "-")
        return self._kubeconfig(name, {"client-certificate": str(certificate), "client-key": str(key)})
