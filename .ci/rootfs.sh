# shellcheck shell=bash
# Root file systems for images where no image registry is reachable: out of
# Debian packages (unpack_debs) or of programs of this host (copy_program).
# Sourced after lib.sh.
: "${ci:?lib.sh comes first}" "${me:?}"

scratch_dir() { # sets $scratch, gone when the script ends
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/dcshealer-image.XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
}

# one_at_a_time waits until no other run builds: they share the cache.
one_at_a_time() {
	have flock || return 0
	exec 8>"$(cache_dir)/build.lock"
	flock --timeout 900 8 || die "another build has held $(cache_dir)/build.lock for 15 minutes"
}

# skeleton makes an empty root with a merged /usr, so that files of older and
# newer Debian releases find their places alike.
skeleton() { # ROOT
	local dir
	for dir in bin sbin lib lib64; do
		mkdir -p "$1/usr/$dir"
		ln -s "usr/$dir" "$1/$dir"
	done
	mkdir -p "$1"/{data,dev,etc,proc,root,run,sys,tmp,usr/local/bin}
	chmod 1777 "$1/tmp"
	cat >"$1/etc/passwd" <<-'PASSWD'
		root:x:0:0:root:/root:/bin/sh
		redis:x:999:999:redis:/data:/bin/sh
		nobody:x:65534:65534:nobody:/:/bin/false
	PASSWD
	cat >"$1/etc/group" <<-'GROUP'
		root:x:0:
		redis:x:999:
		nogroup:x:65534:
	GROUP
	echo 'hosts: files dns' >"$1/etc/nsswitch.conf"
}

# applets links what busybox can do, where the root has no such program yet.
applets() { # ROOT
	local name
	while read -r name; do
		[[ -e $1/usr/bin/$name || -e $1/usr/sbin/$name || $name == busybox ]] || ln -s busybox "$1/usr/bin/$name"
	done < <("$1/usr/bin/busybox" --list)
}

# --- programs of this host -----------------------------------------------------------

# copy_program copies a program and the libraries it is linked with.
copy_program() { # ROOT PROGRAM NAME
	local real lib libc=
	real=$(readlink -f "$2")
	install -D -m 755 "$real" "$1/usr/bin/$3"
	while read -r lib; do
		install -D -m 755 "$(readlink -f "$lib")" "$1$lib"
		[[ $lib != */libc.so.* ]] || libc=$lib
	done < <(ldd "$real" | grep -oE '/[^ ]+')
	# Before glibc 2.34 name service is loaded at run time and not in ldd's list.
	[[ -n $libc ]] || return 0
	for lib in "${libc%/*}"/libnss_{dns,files}.so.2 "${libc%/*}"/libresolv.so.2; do
		if [[ -e $lib ]]; then install -D -m 755 "$(readlink -f "$lib")" "$1$lib"; fi
	done
}

# copy_shell gives the root a static busybox: this host's, or that of its packages.
copy_shell() { # ROOT
	local box deb
	box=$(command -v busybox || true)
	if [[ -z $box ]] || ldd "$box" >/dev/null 2>&1; then
		if ! have apt-get || ! have dpkg-deb; then
			die "no static busybox on PATH, which the image needs for its shell: install one"
		fi
		say "fetching busybox-static"
		mkdir -p "$scratch/box"
		(cd "$scratch/box" && apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User= download busybox-static) >"$scratch/log" 2>&1 ||
			die "busybox-static could not be downloaded (apt-get update, or install a static busybox): $(tail -n 3 "$scratch/log")"
		deb=$(echo "$scratch"/box/*.deb)
		dpkg-deb --extract "$deb" "$scratch/box"
		box=$(find "$scratch/box" -type f -path "*/bin/busybox")
	fi
	install -D -m 755 "$box" "$1/usr/bin/busybox"
	applets "$1"
}

# --- Debian packages -----------------------------------------------------------------
# Each suite has an apt root of its own in the cache. apt checks the suite's
# signature, its index and each package; this host's packages are neither read
# nor changed. Only its proxy and transport settings are taken over.

debian_keyring() {
	local file
	for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
		if [[ -r $file ]]; then
			echo "$file"
			return
		fi
	done
	return 1
}

debian_mirror() {
	if [[ -n ${DEBIAN_MIRROR-} ]]; then
		echo "${DEBIAN_MIRROR%/}"
		return
	fi
	# shellcheck disable=SC2016 # the names are apt's
	{
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'
		# A fresh system has no lists yet, thus no origin: then the path has to tell.
		apt-get indextargets --no-release-info --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' || true
	} 2>/dev/null | sed -n 's,/$,,;1p' | grep .
}

# debian_reachable says on stderr what is missing to use Debian packages here.
debian_reachable() {
	local cmd
	for cmd in apt-get apt-cache apt-config dpkg dpkg-deb sha256sum; do
		have "$cmd" || { say "no $cmd here to get Debian packages with" && return 1; }
	done
	debian_keyring >/dev/null || { say "no Debian keyring: apt-get install debian-archive-keyring" && return 1; }
	debian_mirror >/dev/null || { say "the apt sources name no Debian mirror: set DEBIAN_MIRROR=http://HOST/debian" && return 1; }
}

# same_architecture keeps amd64 programs out of an arm64 engine.
same_architecture() {
	local here engine
	here=$(dpkg --print-architecture)
	engine=$(docker version --format '{{.Server.Arch}}')
	case $here in armhf) here=arm ;; ppc64el) here=ppc64le ;; esac
	[[ $here == "$engine" ]] || die "this host is $here, the Docker engine $engine: images can only be made for the host's own"
}

apt_root() { # SUITE: makes the root and points APT_CONFIG at it
	local root arch
	root=$(cache_dir)/apt/$1
	arch=$(dpkg --print-architecture)
	mkdir -p "$root"/{etc/apt/apt.conf.d,etc/apt/preferences.d,var/log/apt,empty/partial} \
		"$root"/var/{lib/apt/lists,cache/apt/archives}/partial
	echo "deb [arch=$arch signed-by=$(debian_keyring)] $(debian_mirror) $1 main" >"$root/etc/apt/sources.list"
	# What maintainer scripts would need counts as installed: none of them is run.
	printf 'Package: %s\nStatus: install ok installed\nVersion: 99:1\nArchitecture: all\nMaintainer: none\nDescription: assumed\n\n' \
		debconf adduser init-system-helpers >"$root/status"
	env -u APT_CONFIG apt-config dump | grep -E '^Acquire::(https?|Check-)' >"$root/apt.conf" || true
	cat >>"$root/apt.conf" <<-CONF
		Dir "$root/";
		Dir::State::status "$root/status";
		Dir::Etc::netrc "/etc/apt/auth.conf";
		Dir::Etc::netrcparts "/etc/apt/auth.conf.d/";
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		APT::Get::AllowUnauthenticated "false";
		APT::Install-Recommends "false";
		APT::Sandbox::User "";
		APT::Update::Error-Mode "any";
		Acquire::AllowInsecureRepositories "false";
		Acquire::ForceHash "SHA256";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Debug::NoLocking "true";
	CONF
	apt_archives=$root/var/cache/apt/archives
	apt_empty=$root/empty
	export APT_CONFIG=$root/apt.conf
}

in_apt_root() { apt-get -q -y "$@" >"$scratch/log" 2>&1 </dev/null; }

# unpack_debs lays out packages of a suite, with all they depend on, in a new root.
# The first package's version is left in $deb_version.
unpack_debs() { # ROOT SUITE PACKAGE...
	local root=$1 suite=$2 file hash
	shift 2
	apt_root "$suite"
	say "Debian $suite: $*"
	in_apt_root update ||
		die "no index of Debian $suite from $(debian_mirror) (a suite that has left it: set DEBIAN_MIRROR to an archive): $(tail -n 3 "$scratch/log")"
	in_apt_root --print-uris -o Dir::Cache::archives="$apt_empty/" install "$@" ||
		die "Debian $suite cannot give $*: $(tail -n 5 "$scratch/log")"
	# 'URI' FILE SIZE SHA256:HASH
	sed -nE "s/^'[^']*' ([^ ]+) [0-9]+ SHA256:([0-9a-f]{64})\$/\1 \2/p" "$scratch/log" >"$scratch/plan"
	while read -r file hash; do # apt itself would trust a damaged file in its cache
		sha256sum --status --check <<<"$hash  $apt_archives/$file" 2>/dev/null || rm -f "$apt_archives/$file"
	done <"$scratch/plan"
	in_apt_root --download-only install "$@" || die "Debian $suite: download of $*: $(tail -n 5 "$scratch/log")"
	skeleton "$root"
	while read -r file hash; do
		dpkg-deb --fsys-tarfile "$apt_archives/$file" | tar -x --keep-directory-symlink --no-same-owner -C "$root"
	done <"$scratch/plan"
	deb_version=$(awk -v name="$1" -F_ '$1 == name { sub(/.*%3a/, "", $2); print $2 }' "$scratch/plan")
	[[ -n $deb_version ]] || die "Debian $suite: no $1 among what apt planned: $(tr '\n' ' ' <"$scratch/plan")"
	in_apt_root autoclean || true # what the index no longer names
	rm -rf "$root"/usr/share/{doc,man,locale,info,lintian,bash-completion,bug} "$root"/usr/lib/*/gconv \
		"$root"/usr/lib/systemd "$root"/usr/lib/*/systemd
	unset APT_CONFIG
}

# --- images --------------------------------------------------------------------------

# recipe is the same as long as what makes the images is.
recipe() { cat "$ci"/{rootfs.sh,entrypoint.sh} "$ci/$me" | sha256sum | cut -c 1-16; }

current() { # IMAGE: is it there, made as it would be made now?
	[[ $(image_label "$1" dcshealer.recipe) == "$(recipe)" ]]
}

# import_root turns a root into an image; /data belongs to the servers' user.
import_root() { # ROOT IMAGE DOCKERFILE-LINE...
	local root=$1 image=$2 old line changes=(--change "LABEL dcshealer.recipe=$(recipe)")
	shift 2
	for line; do changes+=(--change "$line"); done
	old=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
	tar -c --numeric-owner --owner=0 --group=0 --exclude=./data -C "$root" -f "$scratch/root.tar" .
	tar -r --numeric-owner --owner=999 --group=999 -C "$root" -f "$scratch/root.tar" ./data
	docker import "${changes[@]}" "$scratch/root.tar" "$image" >/dev/null || die "docker import of $image"
	rm -rf "$scratch/root.tar" "$root"
	# The image that had this name, unless a container still needs it.
	if [[ -n $old ]]; then docker rmi "$old" >/dev/null 2>&1 || true; fi
}
