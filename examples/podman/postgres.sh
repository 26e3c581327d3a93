#!/bin/sh
# PostgreSQL by Podman, on an image of RBD. The settings in ceph.conf, beside this file, have to be there.
#
#   DB_PASSWORD=$(openssl rand -hex 16) examples/podman/postgres.sh      # the password counts the first time only
#
# To move it: `podman stop db` on one host, this script on another. While it still runs elsewhere, the script
# waits for 45 s, and then says where.
#
# Podman differs from Docker where it matters:
# * It asks no driver for a volume that it does not know, and makes a local, empty one of that name. So the
#   volume is made known on each host before it is used; where the cluster has it, nothing is created.
# * `podman volume prune` also removes volumes of drivers that no container of this host uses, and with them
#   the data of all hosts, into the trash. `protected` keeps it from that.
# * It copies what an image has at the place of a new volume, but not who owns that folder: for images that do
#   not start as root, add `-o uid=… -o gid=…`.
set -eu

podman volume exists pgdata || podman volume create --driver ceph \
  -o size=20G -o fs-type=xfs -o protected \
  -o snapshot-schedule='0 */6 * * *' -o snapshot-keep=latest=3,daily=7,weekly=4 \
  pgdata

POSTGRES_PASSWORD=$DB_PASSWORD podman run --detach --replace --name db --stop-timeout 60 \
  --env POSTGRES_PASSWORD --volume pgdata:/var/lib/postgresql/data docker.io/library/postgres:16
