#!/bin/bash
# What `docker ceph` says to the daemon, said by curl: JSON over the same socket, for scripts and monitoring.
#
#   examples/curl/admin-api.sh VOLUME                      # as root; makes a snapshot, and removes it
#
# Fields may be added to an answer, none is renamed. Paths and verbs are in src/protocol/admin.rs.
set -euo pipefail
volume=$1

api() { # PATH [MORE ARGUMENTS FOR curl…]
  path=$1
  shift
  curl --silent --show-error --fail-with-body --unix-socket "${DOCKER_CEPH_SOCKET:-/run/docker/plugins/ceph.sock}" \
    "http://ceph/ceph/v1/$path" "$@"
  echo
}

api version
api volumes | jq -r '.volumes[] | "\(.name)\t\(.status.state)\t\(.status.size)"'
api "volumes/$volume" | jq .
api "volumes/$volume/who" | jq .
api snapshots --json "{\"volumes\": [\"$volume\"], \"name\": \"by-curl\"}" | jq .
api "volumes/$volume/snapshots" | jq -r '.snapshots[].name'
api "volumes/$volume/snapshots/by-curl" --request DELETE
api schedules | jq .
api trash | jq -r '.volumes[].name'
