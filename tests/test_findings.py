"""results/FINDINGS.md is written by hand; its numbers are not."""

import json
import re
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"
TEXT = " ".join((RESULTS / "FINDINGS.md").read_text().split())


def test_numbers_with_intervals_are_those_of_the_tables() -> None:
    tables = (RESULTS / "README.md").read_text() + (RESULTS / "CLAIMS.md").read_text()
    numbers = re.findall(r"[\d,.]*\d \[[^\]]*\]", TEXT)
    assert numbers
    assert [number for number in numbers if number not in tables] == []


def test_verdicts_on_the_papers_claims_are_the_judged_ones() -> None:
    claims = json.loads((RESULTS / "claims.json").read_text())["claims"]
    judged = {claim["id"]: claim["verdict"] for claim in claims if claim["source"] == "paper"}
    told = dict(re.findall(r"\[(\w+)\]\(CLAIMS\.md#\w+\)[^|]*\| \*\*([a-z ]+)\*\*", TEXT))
    assert told == judged
