#!/bin/sh
# What each part of Perennial may do on Kafka, and nothing more. Safe to repeat; takes nothing away.
#
#   acls.sh BOOTSTRAP_SERVER ADMIN_PROPERTIES
#
# ADMIN_PROPERTIES is the client configuration of somebody who may alter access rules. KAFKA_ACLS:
# Kafka's own kafka-acls.sh. PERENNIAL_TOPIC_PREFIX as the services have it. The users are those that
# KAFKA_SASL_USERNAME names, or the subjects of certificates (User:CN=...).
set -eu

server=$1
config=$2
kafka_acls=${KAFKA_ACLS:-kafka-acls.sh}
topic=${PERENNIAL_TOPIC_PREFIX:-perennial.}
ingest=${INGEST_PRINCIPAL:-User:ingest}
scoring=${SCORING_PRINCIPAL:-User:scoring}
notifier=${NOTIFIER_PRINCIPAL:-User:notifier}
migrate=${MIGRATE_PRINCIPAL:-User:migrate}
operator=${OPERATOR_PRINCIPAL:-User:operator}

allow() {
    "$kafka_acls" --bootstrap-server "$server" --command-config "$config" --add "$@" >/dev/null
}

# All look at start whether the topics are as they must be; none of it shows a record.
allow --allow-principal "$ingest" --allow-principal "$scoring" --allow-principal "$notifier" \
    --allow-principal "$migrate" --allow-principal "$operator" \
    --operation Describe --operation DescribeConfigs \
    --topic "$topic" --resource-pattern-type prefixed

# Keys, and how each source is to be read.
allow --allow-principal "$ingest" --allow-principal "$scoring" --allow-principal "$notifier" \
    --allow-principal "$migrate" --allow-principal "$operator" \
    --operation Read --topic "${topic}sources"

# Events and what is rejected of them; `perennial quarantine replay` does as ingest does.
allow --allow-principal "$ingest" --allow-principal "$operator" --operation Write \
    --topic "${topic}usage-events" --topic "${topic}usage-events-overflow" \
    --topic "${topic}unplaced-events" --topic "${topic}directory-changes" --topic "${topic}rejected"

# Events of a user alone are read by a group of their own, and go on with the account found.
allow --allow-principal "$scoring" --operation Read --group scoring --group scoring-placing \
    --topic "${topic}usage-events" --topic "${topic}usage-events-overflow" \
    --topic "${topic}unplaced-events" --topic "${topic}directory-changes" --topic "${topic}outcomes"
allow --allow-principal "$scoring" --operation Write \
    --topic "${topic}usage-events" --topic "${topic}flags" --topic "${topic}accounts" \
    --topic "${topic}rejected"

allow --allow-principal "$notifier" --operation Read --group notifier \
    --topic "${topic}flags" --topic "${topic}accounts"
allow --allow-principal "$notifier" --operation Write \
    --topic "${topic}outcomes" --topic "${topic}rejected"

# `perennial migrate` makes topics, and announces the console's key where it is not known.
allow --allow-principal "$migrate" --operation Create \
    --topic "$topic" --resource-pattern-type prefixed
allow --allow-principal "$migrate" --allow-principal "$operator" --operation Write \
    --topic "${topic}sources"

# Who runs `perennial keys`, `quarantine`, `erase`, `lag` and `doctor`.
allow --allow-principal "$operator" --operation Read --topic "${topic}rejected"
allow --allow-principal "$operator" --operation Describe \
    --group scoring --group scoring-placing --group notifier
