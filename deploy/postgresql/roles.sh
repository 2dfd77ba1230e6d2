#!/bin/sh
# Makes the roles of Perennial, or renews their passwords, and gives the database to its owner.
#
# As a superuser: in /docker-entrypoint-initdb.d of the postgres image, or by hand with the
# variables of libpq (PGHOST, PGUSER, ...). Again, it only sets the passwords anew. What each role
# may do is granted by `perennial migrate`, which runs as perennial_owner.
#
#   PERENNIAL_DATABASE                     default: POSTGRES_DB, else perennial; made if it is absent
#   POSTGRES_OWNER_PASSWORD_FILE           each role's password, in a file of its own;
#   POSTGRES_SCORING_PASSWORD_FILE         a role without a file may not sign in by password
#   POSTGRES_NOTIFIER_PASSWORD_FILE
#   POSTGRES_BACKUP_PASSWORD_FILE
set -eu

database=${PERENNIAL_DATABASE:-${POSTGRES_DB:-perennial}}
: "${PGUSER:=${POSTGRES_USER:-postgres}}"
export PGUSER

sql() {
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname "$1"
}

# The password goes in by the environment of psql alone: no process list and no log shows it.
role() {
  name=perennial_$1
  file=$2
  password=
  if [ -n "$file" ]; then
    password=$(cat "$file")
    if [ -z "$password" ]; then
      echo "roles.sh: $file is empty" >&2
      exit 1
    fi
  fi
  ROLE_NAME=$name ROLE_PASSWORD=$password sql postgres <<'SQL'
\getenv name ROLE_NAME
\getenv password ROLE_PASSWORD
-- A statement that fails must not put the password into the server's log.
SET log_min_error_statement = 'panic';
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') AS is_new \gset
\if :is_new
  CREATE ROLE :"name";
\endif
ALTER ROLE :"name" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
SELECT length(:'password') > 0 AS has_password \gset
\if :has_password
  SET password_encryption = 'scram-sha-256';
  ALTER ROLE :"name" PASSWORD :'password';
\endif
SQL
}

role owner "${POSTGRES_OWNER_PASSWORD_FILE:-}"
role scoring "${POSTGRES_SCORING_PASSWORD_FILE:-}"
role notifier "${POSTGRES_NOTIFIER_PASSWORD_FILE:-}"
role backup "${POSTGRES_BACKUP_PASSWORD_FILE:-}"

DATABASE_NAME=$database sql postgres <<'SQL'
\getenv name DATABASE_NAME
SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') AS is_new \gset
\if :is_new
  CREATE DATABASE :"name" OWNER perennial_owner ENCODING 'UTF8' TEMPLATE template0;
\else
  ALTER DATABASE :"name" OWNER TO perennial_owner;
\endif
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"name" TO perennial_scoring, perennial_notifier, perennial_backup;
SQL
sql "$database" <<'SQL'
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO perennial_owner;
SQL
