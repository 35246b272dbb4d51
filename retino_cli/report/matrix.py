"""The confusion matrix whose cells open their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import GRADE_NAMES, GRADES, SHORT_GRADE_NAMES
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section, notice
from retino_cli.report.selection import Cell, Rows


def matrix_section(
    matrix: Sequence[Sequence[int]] | None, *, openable: bool, lacking: str, no_pictures: str
) -> Section:
    """The section. ``matrix``: (5, 5) counts, rows the true grades; ``openable``: its cells are buttons that page.js
    gives images to."""
    key, title = "confusion", "Confusion matrix"
    if matrix is None:
        return Section(key, title, element("p", f"There is no confusion matrix: {lacking or 'none was stored'}."))
    head = element(
        "tr",
        element("th", element("span", "True grade", class_="unseen"), scope="col"),
        [
            element(
                "th",
                element("span", str(grade), class_="digit"),
                element("span", SHORT_GRADE_NAMES[grade], class_="word"),
                scope="col",
            )
            for grade in GRADES
        ],
        element("th", "Images", scope="col", class_="total"),
    )
    lines = [
        element(
            "tr",
            element("th", element("span", str(true), class_="digit"), SHORT_GRADE_NAMES[true], scope="row"),
            [_cell(true, said, matrix[true][said], sum(matrix[true]), openable=openable) for said in GRADES],
            element("td", f"{sum(matrix[true]):,}", class_="number total"),
        )
        for true in GRADES
    ]
    whole = element(
        "table",
        element("caption", "Rows: true grade. Columns: predicted grade. Percentages are shares of the row."),
        element("thead", head),
        element("tbody", lines),
        class_="matrix",
    )
    body: list[Content] = []
    if openable:
        body.append(element("p", "Choose a cell to see its images.", class_="only-screen"))
    if no_pictures:
        body.append(notice(f"Without photographs: {no_pictures}. The cells list the names of their images."))
    body.append(element("div", whole, class_="scroll matrix-box"))
    if openable:
        body.append(
            element("div", id="cell-images", class_="hidden", tabindex="-1", role="region", aria_label="Images")
        )
    return Section(key, title, body)


def cells_data(
    predictions: Predictions, cells: Mapping[Cell, Rows], shown: Mapping[Cell, Rows], pictures: Mapping[int, str]
) -> dict[str, Any]:
    """What page.js opens a cell with: its title, how many images it has, and [name, probability of the predicted and
    of the true grade, number of its picture or -1] of those that are listed. ``pictures``: data URIs by row."""
    numbers = {row: number for number, row in enumerate(pictures)}
    listed = {}
    for (true, said), rows in shown.items():
        if not len(rows):
            continue
        listed[f"{true}-{said}"] = {
            "title": f"True {true} {GRADE_NAMES[true]}, predicted {said} {GRADE_NAMES[said]}",
            "count": len(cells[true, said]),
            "images": [
                [
                    str(predictions.image_id[row]),
                    round(float(predictions.probabilities[row, said]), 3),
                    round(float(predictions.probabilities[row, true]), 3),
                    numbers.get(int(row), -1),
                ]
                for row in rows
            ],
        }
    return {"cells": listed, "pictures": list(pictures.values())}


def _cell(true: int, said: int, count: int, total: int, *, openable: bool) -> Html:
    share = count / total if total else 0.0
    kind = "right" if true == said else "far" if abs(true - said) >= 2 else "near"
    percent = f"{share:.0%}" if total else "n/a"
    inside: Content = [element("strong", f"{count:,}"), element("span", percent)]
    if openable and count:
        inside = element(
            "button",
            inside,
            type="button",
            data_cell=f"{true}-{said}",
            aria_expanded="false",
            aria_controls="cell-images",
            aria_label=f"{count} images: true {GRADE_NAMES[true]}, predicted {GRADE_NAMES[said]}, {percent} of the row",
        )
    return element("td", inside, class_=f"{kind}{'' if count else ' empty'}", style=f"--share:{share:.3f}")
