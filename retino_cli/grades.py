"""The five grades of diabetic retinopathy.

Source: Wilkinson et al., "Proposed international clinical diabetic retinopathy and diabetic macular edema disease
severity scales", Ophthalmology 110 (2003) 1677-1682 (ICDR scale).
"""

from __future__ import annotations

from typing import Final

GRADES: Final = (0, 1, 2, 3, 4)
N_GRADES: Final = 5

GRADE_NAMES: Final = (
    "No apparent DR",
    "Mild NPDR",
    "Moderate NPDR",
    "Severe NPDR",
    "Proliferative DR",
)
SHORT_GRADE_NAMES: Final = ("No DR", "Mild", "Moderate", "Severe", "PDR")

REFERABLE_GRADE: Final = 2
"""Referable DR is grade >= 2 (moderate NPDR or worse). Macular edema is not part of it here."""

VISION_THREATENING_GRADE: Final = 3
"""Vision-threatening DR is grade >= 3 (severe NPDR or worse). Macular edema is not part of it here."""
