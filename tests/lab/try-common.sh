# shellcheck shell=bash disable=SC2034
# What `try` and `stop` must agree on.

REPOSITORY=$(readlink -f "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..")
# shellcheck source=tests/lab/lib.sh
. "$REPOSITORY/tests/lab/lib.sh"

LAB_TOOLS=$REPOSITORY/tests/lab
CACHE=$REPOSITORY/target/lab-cache
TRY=$(readlink -m "${DOCKER_CEPH_TRY:-$REPOSITORY/target/try}")
SOCKET=/run/docker/plugins/ceph.sock
IMAGE=docker-ceph-try

# "machine": the engine that already answers here; "host": one of our own, in a lab host.
mode() { cat "$TRY/mode" 2> /dev/null || echo none; }

# Everything that the volume daemon keeps or mounts.
daemon_folder() { if [ "$(mode)" = host ]; then echo "$TRY/hosts/try/ceph"; else echo "$TRY/daemon"; fi; }

on_host() {
  if [ "$(mode)" = host ]; then "$LAB_TOOLS/host" exec "$TRY/hosts" try "$@"; else "$@"; fi
}

# ss sees the sockets of other mount namespaces as well: the file has to be there, too.
listening() { on_host test -S "$SOCKET" && on_host ss -Hxl | grep -qF " $SOCKET "; }

# The engine that `try` found, also from a shell that names another.
if [ -s "$TRY/docker-host" ]; then DOCKER_HOST=$(cat "$TRY/docker-host"); export DOCKER_HOST; fi
