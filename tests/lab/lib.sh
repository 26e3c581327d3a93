# shellcheck shell=bash
# What every part of the lab shares: messages, recorded processes, waiting with a deadline.
# A process is recorded as "pid starttime", so that a number the kernel has given to somebody
# else in the meantime is never signalled.

MARKER=.docker-ceph-lab

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "must run as root (namespaces, mounts and loop devices)"; }

# The 22nd field of /proc/PID/stat; the name before it may hold blanks and brackets.
start_time() {
  local stat
  { IFS= read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [ "$1" != Z ] || return 1
  echo "${20}"
}

record() { # FILE PID
  local since
  since=$(start_time "$2") || return 1
  echo "$2 $since" > "$1"
}

# Prints the pid if the recorded process is still the same one and no zombie.
recorded_pid() { # FILE
  local pid since
  read -r pid since 2>/dev/null < "$1" || return 1
  [ "$(start_time "$pid" || true)" = "$since" ] || return 1
  echo "$pid"
}

alive() { recorded_pid "$1" > /dev/null; }

# A daemon of ours: a session of its own, so that ^C on the terminal does not reach it, and
# none of the caller's descriptors, so that nobody waits for its end of a pipe.
spawn() { # FILE LOG COMMAND…
  local file=$1 log=$2
  shift 2
  mkdir -p "$(dirname "$file")" "$(dirname "$log")"
  (
    for descriptor in /proc/self/fd/*; do
      descriptor=${descriptor##*/}
      [ "$descriptor" -le 2 ] || [ "$descriptor" = 255 ] || eval "exec $descriptor>&-"
    done
    exec setsid "$@"
  ) >> "$log" 2>&1 < /dev/null &
  record "$file" $! || { tail -n 5 "$log" >&2; fail "$1 ended at once, see $log"; }
  disown $!
}

# Waits until a command succeeds; the step is short because what is waited for is local. It starts
# no programs of its own: on an emulated processor they would take the time from what is waited for.
wait_for() { # SECONDS WHAT COMMAND…
  local limit=$1 what=$2 end
  shift 2
  end=$((${EPOCHREALTIME/[.,]/} + limit * 1000000))
  until "$@" > /dev/null 2>&1; do
    [ "${EPOCHREALTIME/[.,]/}" -lt "$end" ] || { say "no $what after $limit s"; return 1; }
    pause 0.05
  done
}

# sleep(1) without a process: nobody ever writes to that pipe.
pause() { # SECONDS
  [ -n "${NEVER:-}" ] || exec {NEVER}<> <(:)
  read -rt "$1" -u "$NEVER" || true
}

# Like timeout(1), which waits for ever for a child that not even SIGKILL ends: here such a child
# is left behind, to end when the device it waits for does.
attempt() { # SECONDS COMMAND…
  local end=$((SECONDS + $1)) child
  shift
  "$@" > /dev/null 2>&1 < /dev/null &
  child=$!
  while start_time "$child" > /dev/null; do
    if [ "$SECONDS" -gt "$end" ]; then
      kill -KILL "$child" 2> /dev/null || true
      disown "$child"
      return 0
    fi
    pause 0.02
  done
  wait "$child" 2> /dev/null || true
}

gone() { ! alive "$1"; }

# Asks, waits, then insists. A stopped process cannot act on TERM, hence the CONT.
end_recorded() { # FILE [SECONDS]
  local file=$1 limit=${2:-10} pid
  if pid=$(recorded_pid "$file"); then
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    wait_for "$limit" "end of $(basename "$file")" gone "$file" || kill_recorded "$file"
  fi
  rm -f "$file"
}

kill_recorded() { # FILE
  local pid
  if pid=$(recorded_pid "$1"); then
    kill -KILL "$pid" 2>/dev/null || true
    wait_for 10 "end of $(basename "$1") after SIGKILL" gone "$1" || return 1
  fi
  rm -f "$1"
}

# A folder is only ever deleted if it carries our mark: the path came from a person.
own_folder() { # DIR
  mkdir -p "$1"
  [ -e "$1/$MARKER" ] || [ -z "$(ls -A "$1")" ] || fail "$1 is not empty and not a lab folder"
  : > "$1/$MARKER"
}

drop_folder() { # DIR
  [ -d "$1" ] || return 0
  [ -e "$1/$MARKER" ] || fail "$1 is not a lab folder: not deleted"
  rm -rf --one-file-system "$1"
}

# Two starts of one folder at the same time would build two clusters into it.
with_lock() { # DIR COMMAND…
  local dir=$1
  shift
  mkdir -p "$(dirname "$dir")"
  exec {LOCK}> "$dir.lock"
  flock -w 120 "$LOCK" || fail "another command works on $dir"
  "$@"
}

is_device_server() { # PID
  grep -qsE '^rbd-(fuse|nbd)$' "/proc/$1/comm"
}

# Mount points below a folder, innermost first, whose "source type" matches the pattern.
mounts_under() { # DIR PATTERN [ENTER…]
  local dir=$1 want=$2
  shift 2
  "$@" cat /proc/self/mounts 2> /dev/null | awk -v dir="$dir/" -v want="$want" \
    'index($2, dir) == 1 && ($1 " " $3) ~ want {print $2}' | tac
}

# From sysfs alone: losetup would ask the file itself, and hang where that does.
loops_under() { # DIR
  local file
  for file in /sys/block/loop*/loop/backing_file; do
    if [[ $(cat "$file" 2> /dev/null) == "$1"/* ]]; then file=${file#/sys/block/}; echo "/dev/${file%%/*}"; fi
  done
}

# Order matters: file systems, loop devices, then the FUSE mount they lie on. What hangs is given
# up after a few seconds; killing its server then wakes everything up.
release_devices() { # DIR PATTERN UMOUNT_FLAG [ENTER…]
  local dir=$1 want=$2 flag=$3 path
  shift 3
  for path in $(mounts_under "$dir" "$want" "$@"); do attempt 5 "$@" umount ${flag:+"$flag"} "$path"; done
  for path in $(loops_under "$dir"); do attempt 5 losetup --detach "$path"; done
}

# The driver moves its device servers into a control group of this name and leaves it there; one
# that is in use cannot be removed, so another daemon's stays.
drop_driver_group() {
  find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name docker-volume-ceph -exec rmdir {} + 2> /dev/null || true
}

# Does the engine of a virtual host answer? Without a program of its own: asked again and again, it
# would slow down what it waits for. A dockerd that is starting accepts the connection, and answers
# when it is ready.
engine_answers() { # NUMBER
  local socket line status=1
  exec {socket}<> "/dev/tcp/10.78.0.1$1/2375" || return 1
  printf 'GET /_ping HTTP/1.0\r\n\r\n' >&"$socket"
  if read -r -t 60 line <&"$socket" && [[ $line == *" 200 "* ]]; then status=0; fi
  exec {socket}>&-
  return "$status"
}

# A containerd without what no test uses, most of which would complain of what it does not find.
containerd_conf() {
  cat <<'CONF'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
CONF
}
