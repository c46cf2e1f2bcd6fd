# Sourced by the build scripts of Go programs, each in the folder of its name below
# $tools, with go.mod and go.sum.
#   once PROGRAM PACKAGE HOW_LONG [SOURCE…]
# builds PACKAGE, once, into a cache folder keyed by go.mod, go.sum, the script and the
# sources, and prints the folder as its last line. A function `beside`, where there is
# one, puts more into the folder that it is given.
once() {
  local program=$1 package=$2 how_long=$3
  shift 3
  cd "$tools/$program"
  command -v go >/dev/null || { echo "go is missing: apt-get install golang-go (1.26 or newer)" >&2; exit 1; }
  local key bin
  key=$(cat go.mod go.sum build.sh ../once.sh "$@" | sha256sum | cut -c1-16)
  bin=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/$program/$key
  if [ ! -x "$bin/$program" ]; then
    # Moved in whole: an interrupted build leaves nothing half made.
    staging=$bin.building.$$
    mkdir -p "$staging"
    trap 'rm -rf "$staging"' EXIT
    echo "building $program ($how_long on two cores, once)" >&2
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$staging/$program" "$package"
    if declare -F beside >/dev/null; then beside "$staging"; fi
    mkdir -p "$(dirname "$bin")"
    mv "$staging" "$bin"
  fi
  echo "$bin"
}
