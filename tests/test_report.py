"""The report: it builds from the repository's own files, its tables hold their numbers, a missing file is one line."""

import json
import re
from decimal import ROUND_HALF_UP, Decimal

import pytest
from helpers import ROOT, run_script

from theory import report
from theory.command import UserError


@pytest.fixture(scope="module")
def tables():
    return json.dumps(json.loads(report.compiler().query("table")), ensure_ascii=False)


def test_it_is_written_where_the_user_wants_it_and_the_same_twice(tmp_path):
    done = run_script("theory/report.py", "--out", tmp_path / "new/report.pdf")
    assert done.returncode == 0, done.stderr
    pdf = (tmp_path / "new/report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf == report.build()


def test_every_file_that_it_reads_is_there():
    files = re.findall(r'"(/(?:results|weights)/[^"]+)"', (ROOT / "theory/report.typ").read_text(encoding="utf-8"))
    assert len(files) > 20 and [file for file in files if not (ROOT / file[1:]).is_file()] == []


def test_numbers_of_the_records_stand_in_its_tables(tables):
    q1 = json.loads((ROOT / "results/q1/distances.json").read_text())
    q2 = json.loads((ROOT / "results/q2/gan_lab.json").read_text())
    q3 = json.loads((ROOT / "results/q3/table_fashion.json").read_text())
    scores = json.loads((ROOT / "results/q4/scores.json").read_text())

    def rounded(value, digits):
        return str(Decimal(str(value)).quantize(Decimal(10) ** -digits, ROUND_HALF_UP))

    wanted = [rounded(r["critic"]["length"], 3) for r in q1["networks"]]
    wanted += [rounded(a["seen"]["w1"], 3) for a in q2["attempts"]]
    wanted += [rounded(row["error_std"], 2) for row in q3["rows"]]
    wanted += [rounded(scores[model]["recall"]["mean"], 3) for model in ("dcgan", "wgan")]
    assert [number for number in wanted if number not in tables] == []


def test_a_missing_or_damaged_result_is_named_in_one_line(tmp_path):
    (tmp_path / "theory").mkdir()
    text = (ROOT / "theory/report.typ").read_text(encoding="utf-8")
    (tmp_path / "theory/report.typ").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="q1/distances.json"):
        report.build(tmp_path)
    (tmp_path / "results/q1").mkdir(parents=True)
    (tmp_path / "results/q1/distances.json").write_text("{")
    with pytest.raises(UserError, match="JSON"):
        report.build(tmp_path)
