"""The worst errors, one by one: photograph, heat map, true and predicted grade, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from retino_cli.evaluation.predictions import Predictions
from retino_cli.grades import GRADE_NAMES, GRADES, SHORT_GRADE_NAMES
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section, notice
from retino_cli.report.row_charts import Bar, bars
from retino_cli.report.selection import Rows

SHOWN_AT_ONCE: Final = 12
"""Errors that stand open; the others are one click away."""


@dataclass(frozen=True)
class CasePicture:
    """Data URIs of a photograph and of its heat map; ``heat`` is empty where there is none."""

    photograph: str
    heat: str = ""


def errors_section(
    predictions: Predictions | None,
    rows: Rows,
    pictures: Mapping[int, CasePicture],
    *,
    lacking: str,
    no_pictures: str,
    no_heat: str,
) -> Section:
    """The section. ``rows`` are the worst errors in order, ``pictures`` by row; ``lacking``, ``no_pictures`` and
    ``no_heat`` say why there are no errors to tell, no photographs, no heat maps ("" where there are)."""
    key, title = "errors", "Worst errors"
    if predictions is None:
        return Section(key, title, element("p", f"There are no errors to show: {lacking}."))
    n_wrong = int((predictions.predicted != predictions.grade).sum())
    if not n_wrong:
        return Section(key, title, element("p", f"Every one of the {len(predictions):,} images is graded right."))
    explanation = (
        f"{n_wrong:,} of {len(predictions):,} images are graded wrong; here are the {len(rows)} worst: those furthest "
        "from the true grade, and among these the most confident."
    )
    cards = [_card(predictions, int(row), place, pictures.get(int(row))) for place, row in enumerate(rows, start=1)]
    hidden = cards[SHOWN_AT_ONCE:]
    more = (
        element(
            "details",
            element("summary", f"{len(hidden)} more errors"),
            element("div", hidden, class_="cases"),
            class_="more",
        )
        if hidden
        else None
    )
    body: list[Content] = [element("p", explanation)]
    if no_pictures:
        body.append(notice(f"Without photographs: {no_pictures}."))
    elif no_heat:
        body.append(notice(f"Without heat maps: {no_heat}."))
    if any(picture.heat for picture in pictures.values()):
        body.append(_fader())
    return Section(key, title, [*body, element("div", cards[:SHOWN_AT_ONCE], class_="cases"), more])


def _fader() -> Html:
    return element(
        "div",
        element("label", "Heat maps, all at once", for_="heat-all"),
        element("input", type="range", id="heat-all", min=0, max=100, value=50, data_heat_all=True),
        element(
            "p",
            "Blue places spoke for the predicted grade, the brightest the most (Grad-CAM). Each map has its own scale, "
            "and is no finer than the network's last map: about 32 pixels of what it sees, 8 where it was made for "
            "small pictures (3x3 stem). A map shows where the network looked, not why.",
            class_="hint",
        ),
        class_="fader",
    )


def _card(predictions: Predictions, row: int, place: int, picture: CasePicture | None) -> Html:
    image_id = str(predictions.image_id[row])
    true, said = int(predictions.grade[row]), int(predictions.predicted[row])
    who = " ".join(
        part
        for part in (
            f"patient {predictions.patient_id[row]}" if predictions.patient_id[row] else "",
            f"{predictions.eye[row]} eye" if predictions.eye[row] else "",
        )
        if part
    )
    rows = [
        Bar(
            f"{grade} {SHORT_GRADE_NAMES[grade]}",
            float(predictions.probabilities[row, grade]),
            f"{predictions.probabilities[row, grade]:.3f}",
            [*(["true"] if grade == true else []), *(["said"] if grade == said else [])],
        )
        for grade in GRADES
    ]
    return element(
        "article",
        _picture(picture, image_id) if picture is not None else None,
        element("h3", f"{place}. {image_id}"),
        element(
            "p",
            element("span", "True ", element("strong", f"{true} {GRADE_NAMES[true]}"), class_="truth"),
            element("span", "Said ", element("strong", f"{said} {GRADE_NAMES[said]}"), class_="said"),
            class_="verdict",
        ),
        element("p", who, class_="hint") if who else None,
        bars(rows, label=f"Probabilities of {image_id}"),
        class_="case",
        aria_label=f"Error {place}: {image_id}",
    )


def _picture(picture: CasePicture, image_id: str) -> Html:
    photograph = element("img", src=picture.photograph, alt=f"Photograph {image_id}", class_="photograph")
    if not picture.heat:
        return element("div", element("div", photograph, class_="photo"), class_="look")
    return element(
        "div",
        element("div", photograph, element("img", src=picture.heat, alt="", class_="heat"), class_="photo"),
        element(
            "label",
            element("span", f"Heat map of {image_id}", class_="unseen"),
            element("span", "Photograph", aria_hidden="true"),
            element("input", type="range", min=0, max=100, value=50, data_heat=True),
            element("span", "Heat map", aria_hidden="true"),
            class_="fade",
        ),
        class_="look",
    )
