#!/bin/sh
# Dumps the database into FOLDER, checks what it wrote, records it, and drops what is too old.
#
#   backup.sh FOLDER
#
# As perennial_backup, with the variables of libpq: PGHOST, PGDATABASE (default: perennial), PGUSER,
# PGSSLMODE, ...; PGPASSWORD_FILE names a file that holds the password. pg_dump must be at least as
# new as the server. Exit code 0: FOLDER holds a backup that can be read, under its final name.
#
#   BACKUP_KEEP_DAYS   default: 30
set -eu

folder=${1:?usage: backup.sh FOLDER}
keep=${BACKUP_KEEP_DAYS:-30}
export PGDATABASE="${PGDATABASE:-perennial}" PGUSER="${PGUSER:-perennial_backup}"
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi
# Whoever reads a backup reads every customer.
umask 077

name=perennial-$(date -u +%Y%m%dT%H%M%SZ)
new=$folder/.$name.$$
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM

# One snapshot: the positions in the log are of the same moment as all that was counted by them.
pg_dump --format=custom --no-owner --no-privileges --lock-wait-timeout=60s --file="$new"
# To the last byte: what is cut short or cannot be inflated is no backup.
pg_restore --file=/dev/null "$new"
sync "$new"
mv "$new" "$folder/$name.dump"

bytes=$(wc -c <"$folder/$name.dump" | tr -d ' ')
BYTES=$bytes psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\getenv bytes BYTES
SELECT to_regclass('scoring.backups') IS NOT NULL AS is_known \gset
\if :is_known
  INSERT INTO scoring.backups (finished_at, kind, bytes) VALUES (now(), 'dump', :bytes);
\else
  \warn 'backup.sh: this schema keeps no record of backups: perennial migrate'
\endif
SQL

find "$folder" -maxdepth 1 -type f -name 'perennial-*.dump' -mtime "+$keep" -delete
find "$folder" -maxdepth 1 -type f -name '.perennial-*' -mtime +1 -delete
echo "$folder/$name.dump: $bytes bytes"
