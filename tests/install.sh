#!/usr/bin/env bash
# Installs the Debian (or Ubuntu) packages that the tests need, if they are missing, without letting any of them
# start a daemon: the tests start their own. Needs root or a sudo that asks nothing; says what to do otherwise.
# On another system nothing is installed: with a Docker engine the servers run as containers, and this says which.
set -euo pipefail

# What is needed, as "program:package"; a program that is there is enough, wherever it came from.
NEEDS=(
    redis-server:redis-server
    prometheus:prometheus
    promtool:prometheus
    prometheus-alertmanager:prometheus-alertmanager
    amtool:prometheus-alertmanager
    prometheus-redis-exporter:prometheus-redis-exporter
    prometheus-node-exporter:prometheus-node-exporter
    prometheus-blackbox-exporter:prometheus-blackbox-exporter
    prometheus-pushgateway:prometheus-pushgateway
    postgres:postgresql
    pg_dump:postgresql-client
    etcd:etcd-server
    nginx:nginx-light
    dockerd:docker.io
    iptables:iptables
    nft:nftables
    ip:iproute2
    busybox:busybox-static
    debootstrap:debootstrap
    chromium:chromium
    setpriv:util-linux
    fuser:psmisc
)

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
for folder in /usr/lib/postgresql/*/bin; do
    PATH="$PATH:$folder"
done

missing() {
    local need
    for need in "${NEEDS[@]}"; do
        command -v "${need%%:*}" >/dev/null || echo "$need"
    done
}

missing_programs() { missing | sed 's/:.*//'; }
missing_packages() { missing | sed 's/.*://' | sort -u; }

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi

elsewhere() {
    local need name image contained=() there=()
    # Which image brings which program; the tests read the same table.
    if command -v python3 >/dev/null && docker version >/dev/null 2>&1; then
        while read -r name image; do
            contained+=("$name")
            echo "    $name: container of $image"
        done < <(cd "$(dirname "$0")/.." && python3 -m tests.support.images $(missing_programs))
    fi
    while read -r need; do
        [[ " ${contained[*]} " == *" ${need%%:*} "* ]] || there+=("$need")
    done < <(missing)
    if [ "${#there[@]}" -eq 0 ]; then
        echo "This is no Debian or Ubuntu: the tests run the programs above as containers."
        return 0
    fi
    {
        echo "This is no Debian or Ubuntu, and the tests need these programs (after the colon: in which Debian package"
        echo "they are). Install them as your system does, put them on PATH, and try again:"
        printf '    %s\n' "${there[@]}"
        [ "${#contained[@]}" -gt 0 ] || echo "With a Docker engine that answers, most servers among them would run as containers."
    } >&2
    return 1
}

if ! command -v apt-get >/dev/null; then
    elsewhere
    exit
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "The tests need Debian packages that are missing. As root:" >&2
        echo "    apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi

echo "installing for the tests: ${missing[*]}"
# Debian asks policy-rc.d before it starts a service after an installation; 101 means "do not".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -ne 0 ]; then
    echo "still missing after the installation: ${missing[*]}" >&2
    exit 1
fi
