import gzip
from pathlib import Path

import pytest

from services.importing.errors import Unusable
from services.importing.source import open_csv, survey
from shared.csv_table import CsvRow


def written(folder: Path, content: bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return path


def read(path: Path) -> tuple[list[str], list[CsvRow]]:
    with open_csv(path) as file:
        return file.header, list(file.rows())


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        b"a;b\n1;2\n",
        b"a\tb\r\n1\t2\r\n",
        b"\xef\xbb\xbfa,b\n1,2",
        b'"a","b"\n"1","2"\n',
        gzip.compress(b"a,b\n1,2\n"),
        gzip.compress(b"a,b\n") + gzip.compress(b"1,2\n"),
        b"\n\na,b\n\n1,2\n\n",
    ],
    ids=["comma", "semicolon", "tab, CRLF", "BOM", "quotes", "gzip", "joined gzip", "blank lines"],
)
def test_files_of_every_kind_are_read(tmp_path: Path, content: bytes) -> None:
    header, records = read(written(tmp_path, content))
    assert header == ["a", "b"]
    assert [record.cells for record in records] == [["1", "2"]]


def test_the_fingerprint_is_of_the_content_not_of_its_packing(tmp_path: Path) -> None:
    content = b"a,b\n1,2\n"
    plain = survey(written(tmp_path, content))
    assert survey(written(tmp_path, gzip.compress(content))) == plain
    assert survey(written(tmp_path, content + b"3,4")).lines == 3
    assert plain.fingerprint != survey(written(tmp_path, content + b"3,4")).fingerprint


def test_a_row_over_several_lines_is_one_row(tmp_path: Path) -> None:
    _, records = read(written(tmp_path, b'a,b\n1,"x\ny"\n3,4\n'))
    assert [(record.number, record.line) for record in records] == [(1, 2), (2, 4)]
    assert records[0].cells == ["1", "x\ny"]


@pytest.mark.parametrize(
    "broken",
    [b'1,"never closed', b'1,"x"y', b'"', b"1", b"1,2,3", b"1,2," + b"x" * (1 << 20)],
    ids=["open quote", "text after quote", "lone quote", "too few", "too many", "overlong"],
)
@pytest.mark.parametrize("end", [b"\n5,6\n7,8\n", b"\n"], ids=["in the middle", "at the end"])
def test_a_broken_row_costs_no_other_row(tmp_path: Path, broken: bytes, end: bytes) -> None:
    _, records = read(written(tmp_path, b"a,b\n3,4\n" + broken + end))
    assert [record.cells for record in records if record.broken is None] == (
        [["3", "4"], ["5", "6"], ["7", "8"]] if len(end) > 1 else [["3", "4"]]
    )
    assert [(record.number, record.line) for record in records if record.broken] == [(2, 3)]
    assert [record.number for record in records] == list(range(1, len(records) + 1))


def test_a_quote_that_swallows_a_line_costs_only_its_own_line(tmp_path: Path) -> None:
    # The second quote would close the first, over the line end: `1,"2\n3,"4"` is no CSV.
    _, records = read(written(tmp_path, b'a,b\n1,"2\n3,"4"\n5,6\n'))
    assert [record.cells for record in records if record.broken is None] == [
        ["3", "4"],
        ["5", "6"],
    ]


def test_bytes_that_are_no_text_stay_in_their_cell(tmp_path: Path) -> None:
    _, records = read(written(tmp_path, b"a,b\ncaf\xe9,2\n3,4\n"))
    assert records[0].cells == ["caf\udce9", "2"]
    assert records[1].cells == ["3", "4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "must name the columns"),
        (gzip.compress(b"a,b\n1,2\n" * 999, mtime=0)[:-20], "damaged gzip"),
        (b"\x1f\x8b rubbish that is no gzip", "damaged gzip"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,b,a\n1,2,3\n", "names a more than once"),
        (b"caf\xe9,b\n", "header is not UTF-8"),
        (b'"a,b\n1,2\n', "header cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_once(
    tmp_path: Path, content: bytes, message: str
) -> None:
    def use() -> None:
        path = written(tmp_path, content)
        survey(path)
        read(path)

    with pytest.raises(Unusable, match=message):
        use()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"cannot read .*none\.csv: No such file"):
        survey(tmp_path / "none.csv")
