#!/usr/bin/env bash
# The tests run a private RabbitMQ. Installed through apt when there is neither a server nor a broker to use.
set -euo pipefail

[ -n "${FOREBAY_TEST_BROKER_URL:-}" ] && exit 0
{ command -v rabbitmq-server || [ -x /usr/sbin/rabbitmq-server ]; } >/dev/null && exit 0
bash "$(dirname "$0")/apt_install.sh" rabbitmq-server || {
  printf 'setup: the tests need RabbitMQ. Install it as said above, or name a broker that may be used:\n\n    FOREBAY_TEST_BROKER_URL=amqp://user:password@host:5672/vhost make test\n\n' >&2
  exit 1
}
