"""Where something is written: every column of every table of every schema, read as it is stored."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg

_COLUMNS = """
SELECT n.nspname AS schema, c.relname AS name,
    coalesce(pg_partition_root(c.oid)::regclass, c.oid::regclass)::text AS root,
    array_agg(a.attname ORDER BY a.attnum) AS columns,
    array_agg(a.atttypid = 'bytea'::regtype ORDER BY a.attnum) AS is_bytes
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information_schema$)'
GROUP BY 1, 2, 3 ORDER BY 1, 2
"""


@dataclass(slots=True)
class Traces:
    """By what was looked for: in how many rows of which table, or which topic of the log."""

    found: dict[str, Counter[str]] = field(default_factory=dict)
    rows: int = 0
    tables: int = 0

    def of(self, name: str) -> set[str]:
        return set(self.found.get(name, ()))

    def topics(self, name: str) -> set[str]:
        return {one for one in self.of(name) if one.startswith("log:")}

    def tables_of(self, name: str) -> set[str]:
        return self.of(name) - self.topics(name)


async def traces(url: str, wanted: Mapping[str, str]) -> Traces:
    """`wanted`: the text to look for, whatever its case, by what it is called."""
    result = Traces(found={name: Counter() for name in wanted})
    needles = {name: needle.casefold() for name, needle in wanted.items()}
    connection = await asyncpg.connect(url)
    try:
        for table in await connection.fetch(_COLUMNS):
            result.tables += 1
            texts = [
                f"""encode("{column}", 'escape')""" if is_bytes else f'"{column}"::text'
                for column, is_bytes in zip(table["columns"], table["is_bytes"], strict=True)
            ]
            where = '"topic"' if table["root"] == "log.records" else "''"
            rows = await connection.fetch(
                f"SELECT concat_ws(E'\\n', {', '.join(texts)}) AS text, {where} AS topic"
                f' FROM "{table["schema"]}"."{table["name"]}"'
            )
            result.rows += len(rows)
            for row in rows:
                said = row["text"].casefold()
                place = f"log:{row['topic']}" if row["topic"] else table["root"]
                for name, needle in needles.items():
                    if needle in said:
                        result.found[name][place] += 1
    finally:
        await connection.close()
    return result


def said_in(text: str, wanted: Mapping[str, str]) -> set[str]:
    """Which of them a text has, whatever their case."""
    folded = text.casefold()
    return {name for name, needle in wanted.items() if needle.casefold() in folded}
