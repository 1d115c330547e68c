# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run.
set -euo pipefail
umask 022

me=${0##*/}
ci=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$ci")
export project
label=dcshealer-test=1 # on every container, network and image that is there for tests alone
export label

say() { printf '%s: %s\n' "$me" "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# cache_dir prints a folder that outlives the run, and makes it.
cache_dir() {
	local dir=${XDG_CACHE_HOME:-${HOME:?neither XDG_CACHE_HOME nor HOME is set}/.cache}/dcshealer
	mkdir -p "$dir" || die "cannot write $dir: set XDG_CACHE_HOME to a folder that can be written"
	(cd "$dir" && pwd)
}

engine_answers() { have docker && timeout 20 docker version >/dev/null 2>&1; }

need_engine() {
	engine_answers || die "no Docker engine answers 'docker version': run .ci/setup engine"
}

# image_label IMAGE KEY prints a label; fails where there is no such image.
image_label() { docker image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null; }

image_present() { docker image inspect "$1" >/dev/null 2>&1; }
