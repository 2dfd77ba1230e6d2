#!/bin/sh
# Restores a backup into an empty database, and leaves it so that the services may be started.
#
#   restore.sh DUMP [RECEIPTS]
#
# RECEIPTS: what was erased since the backup is erased again, before anything runs on it. No service
# may run meanwhile. As perennial_owner, with the variables of libpq (see backup.sh), and DATABASE_URL
# (or DATABASE_URL_FILE) of the same for `perennial`. pg_restore and psql of the server's release.
#
#   PERENNIAL   default: perennial; empty, where that program is not (docker-compose.yml): the rows
#               are restored, and what it would do is left to you and said at the end
set -eu

dump=${1:?usage: restore.sh DUMP [RECEIPTS]}
receipts=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
perennial=${PERENNIAL-perennial}
export PGDATABASE="${PGDATABASE:-perennial}" PGUSER="${PGUSER:-perennial_owner}"
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi

say() { echo "restore.sh: $*" >&2; }
sql() { psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"; }

pg_restore --list "$dump" >/dev/null
if [ -n "$receipts" ] && [ ! -e "$receipts" ]; then
  say "$receipts is not there"
  exit 2
fi
if [ -n "$receipts" ] && [ -z "$perennial" ]; then
  say "without that program nobody is erased: leave RECEIPTS out, and go by what is said at the end"
  exit 2
fi
found=$(sql --command "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n
  ON n.oid = c.relnamespace WHERE n.nspname IN ('scoring', 'notifier', 'log', 'public')")
if [ "$found" != 0 ]; then
  say "$PGDATABASE is not empty: restore into a new database, then let the services use that one"
  exit 2
fi

# All or nothing, and never without the hold: what is cut short has no COMMIT.
(
  set -e
  echo 'BEGIN;'
  pg_restore --no-owner --no-privileges --file=- "$dump"
  cat "$here/hold.sql"
  echo 'COMMIT;'
) | sql >/dev/null
if [ "$(sql --command "SELECT to_regclass('public.alembic_version') IS NOT NULL")" != t ]; then
  say "it was not restored: nothing has been changed"
  exit 1
fi

if [ -z "$perennial" ]; then
  sql --command ANALYZE
  say "restored the rows, and held all messages. Before any service starts:"
  say "  perennial migrate"
  say "  perennial erase --from RECEIPTS"
  exit 0
fi
$perennial migrate
sql --file "$here/hold.sql"
if [ -n "$receipts" ]; then
  $perennial erase --from "$receipts"
fi
sql --command ANALYZE
say "restored; start the services, then say what becomes of the messages that wait:"
say "  perennial notify release-restored [--as-told]"
