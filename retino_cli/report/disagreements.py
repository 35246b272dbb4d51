"""The images on which the runs of a comparison disagree, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from retino_cli.evaluation.comparison import Comparison, Disagreement
from retino_cli.evaluation.judged import Judged
from retino_cli.grades import GRADE_NAMES, GRADES, SHORT_GRADE_NAMES
from retino_cli.report.markup import Content, Html, element, join
from retino_cli.report.page import Section, notice, table
from retino_cli.report.sides import Side, badge, sorted_probabilities

MOST_CARDS: Final = 60
"""Images that are shown one by one."""
_OPEN: Final = 6
"""Of each part, those that are not folded away."""
_MOST_ROWS: Final = 500
"""Further images, in a table."""
_MOST_BARS: Final = 4
"""Sides whose probabilities are drawn."""


@dataclass(frozen=True)
class Part:
    """Images of one kind, the widest disagreement first. ``shown`` of them get cards."""

    key: str
    title: Content
    images: tuple[Disagreement, ...]
    shown: tuple[Disagreement, ...]


def choose_parts(comparison: Comparison, sides: Sequence[Side], *, most: int = MOST_CARDS) -> tuple[Part, ...]:
    """Of two runs three parts: only the one is right, only the other, neither; of more, one. The cards are shared out
    between the parts as evenly as they have images."""
    images = comparison.disagreements
    if len(sides) == 2 and len(comparison.runs) == 2:
        first = [one for one in images if one.predicted[0] == one.grade]
        second = [one for one in images if one.predicted[1] == one.grade]
        neither = [one for one in images if one.grade not in one.predicted]
        found = [
            ("only-first", join(["Only ", badge(sides[0]), " is right"]), first),
            ("only-second", join(["Only ", badge(sides[1]), " is right"]), second),
            ("neither", "Neither is right", neither),
        ]
    else:
        found = [("all", "The widest disagreements", list(images))]
    left, parts = most, {}
    for place, (key, title, ones) in enumerate(sorted(found, key=lambda part: len(part[2]))):
        n = min(len(ones), left // (len(found) - place))
        left -= n
        parts[key] = Part(key, title, tuple(ones), tuple(ones[:n]))
    return tuple(parts[key] for key, _title, _ones in found)


def disagreements_section(
    comparison: Comparison,
    sides: Sequence[Side],
    judged: Sequence[Judged],
    parts: Sequence[Part],
    pictures: Mapping[str, str],
    *,
    no_pictures: str,
) -> Section:
    """``pictures``: data URIs by image id; ``no_pictures`` says why there are none ("" where there are)."""
    key, title = "disagreements", "Images on which they disagree"
    lacking = [one.lacking or "labels say referable or not" for one in judged if one.predicted is None or one.binary]
    if lacking:
        return Section(key, title, element("p", f"Not every side has predicted grades: {lacking[0]}."))
    n = len(comparison.disagreements)
    if not n:
        return Section(key, title, element("p", f"On all {comparison.n_images:,} images they say the same grade."))
    body: list[Content] = [
        element(
            "p",
            f"They differ on {n:,} of {comparison.n_images:,} images. First come those whose grades lie furthest "
            "apart.",
        )
    ]
    if no_pictures:
        body.append(notice(f"Without photographs: {no_pictures}."))
    cards = _Cards(comparison, sides, judged, pictures)
    for part in parts:
        if not part.images and len(parts) > 1:
            body.append(element("h3", part.title, ": none"))
            continue
        body.append(element("h3", part.title, f": {len(part.images):,}"))
        drawn = [cards.draw(one) for one in part.shown]
        body.append(element("div", drawn[:_OPEN], class_="cases pairs-of"))
        if drawn[_OPEN:]:
            more = element("summary", f"{len(drawn) - _OPEN} more")
            body.append(element("details", more, element("div", drawn[_OPEN:], class_="cases pairs-of"), class_="more"))
        rest = part.images[len(part.shown) :]
        if rest:
            body.append(cards.list_rest(rest))
    return Section(key, title, body)


class _Cards:
    """Draws one card an image."""

    def __init__(
        self, comparison: Comparison, sides: Sequence[Side], judged: Sequence[Judged], pictures: Mapping[str, str]
    ) -> None:
        order = np.argsort(judged[0].image_id, kind="stable")
        self.rows = {str(name): row for row, name in enumerate(judged[0].image_id[order])}
        self.patients = judged[0].patient_id[order]
        few = len(sides) <= _MOST_BARS
        self.probabilities = [sorted_probabilities(judged, side) if few else None for side in sides]
        self.comparison, self.sides, self.pictures = comparison, sides, pictures

    def draw(self, one: Disagreement) -> Html:
        picture = self.pictures.get(one.image_id)
        patient = str(self.patients[self.rows[one.image_id]])
        return element(
            "article",
            element("img", src=picture, alt=f"Photograph {one.image_id}", class_="thumbnail") if picture else None,
            element(
                "div",
                element("h4", one.image_id),
                element("p", f"patient {patient}", class_="hint") if patient else None,
                element("p", "True ", element("strong", f"{one.grade} {GRADE_NAMES[one.grade]}"), class_="truth"),
                [
                    element(
                        "p", badge(side), " says ", _said(one, side), class_="said-right" if _right(one, side) else None
                    )
                    for side in self.sides
                ],
                self._bars(one),
                class_="of-case",
            ),
            class_="case",
            aria_label=f"Image {one.image_id}",
        )

    def _bars(self, one: Disagreement) -> Html | None:
        row = self.rows[one.image_id]
        drawn = [
            (side, values[row])
            for side, values in zip(self.sides, self.probabilities, strict=True)
            if values is not None
        ]
        if not drawn:
            return None
        lines = [
            element(
                "tr",
                element("th", f"{grade} {SHORT_GRADE_NAMES[grade]}", scope="row"),
                [
                    element(
                        "td",
                        element(
                            "span",
                            element(
                                "span", style=f"width:{100 * float(values[grade]):.1f}%", class_=f"f{side.look + 1}"
                            ),
                            class_="bar",
                            aria_hidden="true",
                        ),
                        element("span", f"{values[grade]:.2f}", class_="bar-value"),
                    )
                    for side, values in drawn
                ],
                class_="is-true" if grade == one.grade else None,
            )
            for grade in GRADES
        ]
        head = element(
            "tr",
            element("th", element("span", "Grade", class_="unseen"), scope="col"),
            [
                element("th", badge(side), element("span", " probability", class_="unseen"), scope="col")
                for side, _ in drawn
            ],
        )
        return element(
            "table",
            element("caption", f"Probabilities of {one.image_id}", class_="unseen"),
            element("thead", head),
            element("tbody", lines),
            class_="probabilities",
        )

    def list_rest(self, images: Sequence[Disagreement]) -> Html:
        rows = [
            [one.image_id, f"{one.grade} {SHORT_GRADE_NAMES[one.grade]}", *(_said(one, side) for side in self.sides)]
            for one in images[:_MOST_ROWS]
        ]
        header = ["Image", "True", *(join([badge(side), " says"]) for side in self.sides)]
        left_out = len(images) - len(rows)
        caption = f"{len(rows):,} further images" + (
            f"; {left_out:,} more are in disagreements.csv" if left_out else ""
        )
        return element(
            "details",
            element("summary", f"{len(images):,} more, without pictures"),
            table(header, rows, caption=caption),
            class_="more",
        )


def _said(one: Disagreement, side: Side) -> Html:
    """The grade of one run with its name; of several, their grades."""
    grades = [one.predicted[place] for place in side.members]
    if len(grades) == 1:
        return element("strong", f"{grades[0]} {SHORT_GRADE_NAMES[grades[0]]}")
    return element("strong", ", ".join(map(str, grades)))


def _right(one: Disagreement, side: Side) -> bool:
    return all(one.predicted[place] == one.grade for place in side.members)
