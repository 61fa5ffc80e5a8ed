"""Tables of records of people, as they were published: two medical ones, and the census of Adult.

diabetes130: B. Strack et al. 2014, "Impact of HbA1c measurement on hospital readmission rates", UCI 296.
thyroid: the Garavan Institute and J. R. Quinlan 1987, "Thyroid disease records", UCI 102, the file thyroid0387.
adult: B. Becker and R. Kohavi 1996, UCI 2, the census of 1994.
"""

from __future__ import annotations

import io
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.columns import Column
from nanoprune.lab.data.csv_file import parse_csv
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.data.table_file import Reading, dataset_of

UCI = "https://archive.ics.uci.edu/dataset"
DIABETES130 = SourceFile(
    "diabetes130",
    "diabetic_data.csv",
    19_159_383,
    "0689e7ec031237dc63031b938805c48377748761a3b26acab621567afa24df97",
    home=f"{UCI}/296",
)
THYROID = SourceFile(
    "thyroid",
    "thyroid0387.data",
    671_669,
    "975cc253665644d214cca1d7fe6773ace69c7f65d6fd9805a925b1375bd5886c",
    home=f"{UCI}/102",
)
ADULT = (
    SourceFile(
        "adult",
        "adult.data",
        3_974_305,
        "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
        home=f"{UCI}/2",
    ),
    SourceFile(
        "adult",
        "adult.test",
        2_003_153,
        "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
        home=f"{UCI}/2",
    ),
)
CODES = ("admission_type_id", "discharge_disposition_id", "admission_source_id")  # numbers that are categories
DIAGNOSES = ("diag_1", "diag_2", "diag_3")
GROUPS_OF_DIAGNOSES = (  # of ICD-9 codes, in whole numbers: table 2 of Strack et al.
    ("circulatory", (range(390, 460), (785,))),
    ("respiratory", (range(460, 520), (786,))),
    ("digestive", (range(520, 580), (787,))),
    ("injury", (range(800, 1000),)),
    ("musculoskeletal", (range(710, 740),)),
    ("genitourinary", (range(580, 630), (788,))),
    ("neoplasms", (range(140, 240),)),
)
READMITTED = ("NO", ">30", "<30")  # not again, after more than 30 days, within 30
THYROID_COLUMNS = (
    *("age", "sex", "on thyroxine", "query on thyroxine", "on antithyroid medication", "sick", "pregnant"),
    *("thyroid surgery", "I131 treatment", "query hypothyroid", "query hyperthyroid", "lithium", "goitre", "tumor"),
    *("hypopituitary", "psych", "TSH measured", "TSH", "T3 measured", "T3", "TT4 measured", "TT4", "T4U measured"),
    *("T4U", "FTI measured", "FTI", "TBG measured", "TBG", "referral source", "diagnosis"),
)
CONDITIONS = {  # the groups of thyroid0387.names by their letters
    "no condition": "-",
    "hyperthyroid": "ABCD",
    "hypothyroid": "EFGH",
    "binding protein": "IJ",
    "general health": "K",
    "replacement therapy": "LMN",
    "antithyroid treatment": "OPQ",
    "miscellaneous": "RST",
}
ADULT_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


def load_diabetes130(data_dir: pathlib.Path, file: SourceFile = DIABETES130) -> Dataset:
    """101,766 stays in hospital of 71,518 patients, the groups; 3 classes: readmitted not at all, after more than 30
    days, within 30.

    The ICD-9 codes of the diagnoses are put into the nine groups of Strack et al. (`diagnosis_group`); the three codes
    of admission and discharge are categories. A column without a value in 97% of the records, weight, stays.
    """
    columns = _parsed(file, data_dir)
    columns = [_grouped(column, diagnosis_group) if column.name in DIAGNOSES else column for column in columns]
    reading = Reading("readmitted", "patient_nbr", CODES, ("encounter_id",))
    return dataset_of(columns, reading, "diabetes130", file.name, classes=READMITTED)


def load_thyroid(data_dir: pathlib.Path, file: SourceFile = THYROID) -> Dataset:
    """9,172 records, 29 attributes, 8 classes: no condition, and the groups of conditions of thyroid0387.names, by the
    diagnosis' first letter; of "X|Y", "consistent with X, but more likely Y", by Y."""
    columns = _parsed(file, data_dir, THYROID_COLUMNS)
    columns[-1] = _grouped(columns[-1], condition)
    return dataset_of(columns, Reading("diagnosis"), "thyroid", file.name, classes=tuple(CONDITIONS))


def load_adult(data_dir: pathlib.Path, files: Sequence[SourceFile] = ADULT) -> Dataset:
    """48,842 people of the census of 1994, 14 attributes; whether their income is above 50,000 dollars. The first
    32,561 are the official training set. Labels of the test file end in a full stop."""
    train, test = (_parsed(file, data_dir, ADULT_COLUMNS, comment="|") for file in files)
    columns = [_joined(*pair) for pair in zip(train, test, strict=True)]
    columns[-1] = _grouped(columns[-1], lambda label: label.rstrip("."))
    classes, count = ("<=50K", ">50K"), len(train[0].codes)
    return dataset_of(columns, Reading("income"), "adult", "adult", count, classes)


def diagnosis_group(code: str) -> str:
    """The group of an ICD-9 code: 250.xx is diabetes; what is in no other group, and codes with V or E, are "other"."""
    if not re.fullmatch(r"\d+(\.\d*)?", code):
        return "other"
    whole = int(float(code))
    if whole == 250:
        return "diabetes"
    return next((name for name, parts in GROUPS_OF_DIAGNOSES if any(whole in part for part in parts)), "other")


def condition(diagnosis: str) -> str:
    """The group of conditions of a diagnosis such as "K", "GKJ", "C|I" or "-[840801013]"."""
    letter = diagnosis.partition("[")[0].rpartition("|")[2][:1]
    for name, letters in CONDITIONS.items():
        if letter and letter in letters:
            return name
    raise DataError(f"thyroid: diagnosis {diagnosis!r} is none of thyroid0387.names")


def _parsed(
    file: SourceFile, data_dir: pathlib.Path, names: Sequence[str] | None = None, comment: str | None = None
) -> list[Column]:
    content = io.BytesIO(file.read(data_dir))
    return parse_csv(content, file.name, None if names is None else list(names), comment)


def _grouped(column: Column, group: Callable[[str], str]) -> Column:
    """The column with each text replaced by that of its group."""
    return _of_texts(column.name, column.codes, [group(text) for text in column.texts])


def _joined(first: Column, second: Column) -> Column:
    """The records of two files as one column."""
    codes = np.where(second.codes < 0, -1, second.codes + len(first.texts))
    return _of_texts(first.name, np.concatenate([first.codes, codes]), first.texts + second.texts)


def _of_texts(name: str, codes: np.ndarray, texts: list[str]) -> Column:
    """A column from places in `texts`, in which a text may be there more than once; -1 is no value."""
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    places = np.array([*map(distinct.__getitem__, texts), -1], np.int32)
    return Column(name, places[codes], list(distinct))
