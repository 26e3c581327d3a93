#!/bin/sh
# What Docker says to the driver, said by curl: a volume from its creation to its removal. For whoever
# writes a client of their own, or wants to know what an engine sees.
#
#   examples/curl/volume-protocol.sh [VOLUME]              # as root; the volume must not be there yet
#
# Every call is a POST with JSON. A failure has a status other than 200, and `Err` says what is wrong and
# what to do; curl shows it and ends. The mount ID is whatever the caller likes, as long as its Unmount says
# the same: a volume stays mounted until its last ID is gone.
set -eu
volume=${1:-curl-demo}

call() { # VERB BODY
  echo "== $1 $2"
  curl --silent --show-error --fail-with-body --unix-socket "${DOCKER_CEPH_SOCKET:-/run/docker/plugins/ceph.sock}" \
    --json "$2" "http://plugin/$1"
  echo
}

call Plugin.Activate '{}'
call VolumeDriver.Capabilities '{}'
call VolumeDriver.Create "{\"Name\": \"$volume\", \"Opts\": {\"size\": \"64M\", \"on-remove\": \"delete\"}}"
call VolumeDriver.Mount "{\"Name\": \"$volume\", \"ID\": \"curl\"}"
call VolumeDriver.Path "{\"Name\": \"$volume\"}"
call VolumeDriver.Get "{\"Name\": \"$volume\"}"
call VolumeDriver.List '{}'
call VolumeDriver.Unmount "{\"Name\": \"$volume\", \"ID\": \"curl\"}"
call VolumeDriver.Remove "{\"Name\": \"$volume\"}"
