#!/bin/sh
# Takes what the public redis images take: options or a .conf file for the server,
# or any command. A server runs as the user redis, and without protected mode
# unless its options or file speak of it: its clients are never on the loopback.
set -eu

case ${1-} in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac
case $1 in
redis-server | valkey-server) ;;
*) exec "$@" ;;
esac

open=yes
for arg; do
	case $arg in
	--sentinel | --protected-mode*) open=no ;;
	*.conf) if grep -qi '^[[:space:]]*protected-mode' "$arg"; then open=no; fi ;;
	esac
done
if [ "$open" = yes ]; then set -- "$@" --protected-mode no; fi

if [ "$(id -u)" != 0 ]; then exec "$@"; fi
# Files copied in and a mounted /data belong to root, and the server writes there.
find /data ! -user redis -exec chown redis:redis {} +
exec su -m -s /bin/sh -c 'exec "$@"' -- redis sh "$@"
