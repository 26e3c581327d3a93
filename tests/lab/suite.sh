# shellcheck shell=bash
# Packages of Debian suites that are not this machine's, for whoever unpacks them beside its own.
#
# The mirror is the one that this machine is configured with; apt gets a state folder of its own,
# so the system's package lists stay as they are.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# apt itself reads both forms of source lists, so nothing is parsed here.
mirror() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$1 == suite && $2 == "main" {print $3; exit}'
}

private_apt() { # SUITE STATE
  local uri
  uri=$(mirror)
  [ -n "$uri" ] || { say "no Debian mirror is configured on this machine"; return 1; }
  mkdir -p "$2"/{lists/partial,cache/archives/partial}
  : > "$2/status"
  echo "deb [signed-by=$KEYRING] $uri $1 main" > "$2/sources.list"
  cat > "$2/apt.conf" <<CONF
Dir::State "$2";
Dir::State::lists "$2/lists";
Dir::State::status "$2/status";
Dir::Cache "$2/cache";
Dir::Etc::sourcelist "$2/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Get::List-Cleanup "0";
APT::Sandbox::User "root";
APT::Update::Post-Invoke "";
CONF
}

# Unpacks packages of a suite into a new folder.
unpack_of() { # SUITE NEW PACKAGE…
  local state=$2.apt new=$2 suite=$1 deb
  shift 2
  rm -rf "$state" "$new"
  private_apt "$suite" "$state" || return 1
  mkdir -p "$new" "$state/debs"
  timeout 300 apt-get -c "$state/apt.conf" update -qq || return 1
  (cd "$state/debs" && timeout 300 apt-get -c "$state/apt.conf" download -qq "$@") || return 1
  for deb in "$state"/debs/*.deb; do dpkg-deb -x "$deb" "$new" || return 1; done
  rm -rf "$state" "$new/usr/share/doc" "$new/usr/share/man"
}
