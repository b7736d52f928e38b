#!/bin/sh
# Run the tests that need a RabbitMQ; install Debian's where there is none and we may.
# It must never fail for want of one: without a server its tests are skipped, and say so.
set -eu
python=$1
cd "$(dirname "$0")/../.."

has_server() {
  command -v epmd >/dev/null && { test -x /usr/lib/rabbitmq/bin/rabbitmq-server || command -v rabbitmq-server; } >/dev/null
}

install_server() {
  test "$(id -u)" = 0 && command -v apt-get >/dev/null || return 1
  # The tests start servers of their own; the one that the package would start is not wanted.
  refusing=$(mktemp -d)
  printf '#!/bin/sh\nexit 101\n' >"$refusing/policy-rc.d"
  chmod 755 "$refusing/policy-rc.d"
  mine=no
  if ! test -e /usr/sbin/policy-rc.d; then cp "$refusing/policy-rc.d" /usr/sbin/policy-rc.d && mine=yes; fi
  export DEBIAN_FRONTEND=noninteractive
  timeout 300 apt-get install -qy rabbitmq-server ||
    { timeout 120 apt-get update -q && timeout 300 apt-get install -qy rabbitmq-server; } || true
  if test $mine = yes; then rm -f /usr/sbin/policy-rc.d; fi
  rm -rf "$refusing"
  has_server
}

has_server || install_server >&2 || echo "No RabbitMQ, and it may not be installed here: its tests are skipped." >&2
exec "$python" -m pytest -m rabbitmq tests/rabbit
