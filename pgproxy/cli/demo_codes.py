"""demo_codes: what made-up hospital stays are drawn from: code books and how common their entries are.

Codes are those of ICD-9-CM and of the admission form that Strack et al. 2014 describe (BioMed Research International
781670). Shares are round numbers of the size that such hospitals see; none is a count of anybody's data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One ICD-9 code.

    Attributes:
        code: as the hospital writes it, without leading zeros.
        first: stays in 1,000 that have it as the primary diagnosis.
        further: stays in 1,000 that have it as the second or third.
        age: how much likelier each further decade of age makes it, as a logarithm.
        stay: length of such a stay against the average one.
    """

    code: str
    first: float
    further: float
    age: float = 0.0
    stay: float = 1.0


COMMON: Final = (
    Diagnosis("428", 68, 65, 0.35, 1.2),  # heart failure
    Diagnosis("414", 65, 28, 0.20, 0.8),  # coronary disease
    Diagnosis("786", 39, 10, 0.00, 0.5),  # chest pain
    Diagnosis("410", 36, 8, 0.15, 1.1),  # heart attack
    Diagnosis("486", 34, 14, 0.20, 1.2),  # pneumonia
    Diagnosis("427", 27, 50, 0.30, 0.9),  # arrhythmia
    Diagnosis("491", 22, 16, 0.20, 1.1),  # chronic bronchitis
    Diagnosis("715", 21, 5, 0.15, 0.8),  # osteoarthritis
    Diagnosis("434", 20, 4, 0.30, 1.2),  # stroke
    Diagnosis("780", 20, 15, 0.05, 0.7),  # general symptoms
    Diagnosis("682", 20, 14, -0.10, 1.1),  # cellulitis
    Diagnosis("996", 20, 5, 0.00, 1.2),  # complications of a device
    Diagnosis("276", 18, 66, 0.10, 0.9),  # fluids and electrolytes
    Diagnosis("38", 17, 4, 0.20, 1.6),  # septicaemia
    Diagnosis("250.8", 16, 8, -0.10, 1.1),  # diabetes, other manifestations
    Diagnosis("599", 16, 32, 0.25, 1.0),  # urinary infection
    Diagnosis("584", 15, 17, 0.15, 1.2),  # acute renal failure
    Diagnosis("V57", 12, 1, 0.20, 2.2),  # rehabilitation
    Diagnosis("250.6", 12, 10, -0.15, 1.0),  # diabetes with neuropathy
    Diagnosis("518", 11, 14, 0.10, 1.7),  # lung collapse
    Diagnosis("820", 11, 2, 0.50, 1.3),  # fractured hip
    Diagnosis("493", 11, 11, -0.20, 0.9),  # asthma
    Diagnosis("577", 10, 4, -0.20, 1.2),  # pancreatitis
    Diagnosis("435", 10, 2, 0.25, 0.7),  # passing stroke
    Diagnosis("562", 9, 3, 0.10, 1.0),  # diverticulitis
    Diagnosis("574", 9, 2, -0.05, 1.0),  # gallstones
    Diagnosis("250.13", 9, 1, -0.50, 0.8),  # ketoacidosis, type I
    Diagnosis("250.7", 9, 3, 0.05, 1.6),  # diabetes, circulation
    Diagnosis("296", 9, 4, -0.35, 1.8),  # mood disorder
    Diagnosis("560", 8, 3, 0.05, 1.1),  # bowel obstruction
    Diagnosis("440", 8, 5, 0.20, 1.2),  # atherosclerosis
    Diagnosis("433", 8, 2, 0.20, 0.6),  # narrowed carotid
    Diagnosis("998", 8, 4, 0.00, 1.3),  # complications of surgery
    Diagnosis("722", 7, 2, -0.05, 0.7),  # disc disorder
    Diagnosis("250.02", 7, 20, -0.15, 0.8),  # diabetes, type II, uncontrolled
    Diagnosis("578", 6, 4, 0.20, 0.9),  # bleeding gut
    Diagnosis("250.11", 6, 1, -0.50, 0.8),  # ketoacidosis, type I, controlled
    Diagnosis("403", 5, 28, 0.10, 1.1),  # hypertensive kidney disease
    Diagnosis("496", 4, 32, 0.15, 0.9),  # obstructive lung disease
    Diagnosis("401", 4, 36, -0.05, 0.7),  # hypertension
    Diagnosis("250", 3, 58, 0.05, 0.8),  # diabetes
    Diagnosis("411", 3, 25, 0.10, 0.8),  # unstable angina
    Diagnosis("707", 3, 19, 0.15, 1.7),  # chronic skin ulcer
    Diagnosis("585", 2, 19, 0.05, 1.1),  # chronic kidney disease
    Diagnosis("425", 2, 14, 0.10, 1.0),  # cardiomyopathy
    Diagnosis("250.01", 2, 14, -0.60, 0.8),  # diabetes, type I
    Diagnosis("285", 4, 15, 0.10, 0.9),  # anaemia
)
"""About 70 % of primary diagnoses; the rest is `RARE`, in falling shares."""

RARE: Final = tuple(
    code
    # 600 to 679 depend on sex, 740 to 779 are of newborns: nobody's draw here knows either.
    for code in [str(n) for n in range(1, 1000) if not 600 <= n < 680 and not 740 <= n < 780]
    + [
        f"250.{n}"
        for n in (3, 4, 5, 9, 10, 12, 20, 22, 23, 31, 33, 40, 41, 42, 43, 50, 52, 60, 80, 81, 82, 83, 92, 93)
    ]
    + [f"V{n}" for n in (7, 10, 12, 15, 42, 43, 44, 45, 49, 53, 54, 55, 56, 58, 63, 66, 67, 71)]
    + [f"E{n}" for n in (812, 849, 878, 879, 885, 888, 917, 927, 932, 935, 937, 942)]
    if code not in {diagnosis.code for diagnosis in COMMON}
)

AGE_BANDS: Final = {
    "[0-10)": 0.010,
    "[10-20)": 0.022,
    "[20-30)": 0.047,
    "[30-40)": 0.075,
    "[40-50)": 0.125,
    "[50-60)": 0.186,
    "[60-70)": 0.216,
    "[70-80)": 0.193,
    "[80-90)": 0.106,
    "[90-100)": 0.020,
}
RACES: Final = {"Caucasian": 0.70, "AfricanAmerican": 0.20, "Hispanic": 0.05, "Asian": 0.02, "Other": 0.03}
GENDERS: Final = {"Female": 0.53, "Male": 0.47}

ADMISSION_TYPES: Final = {1: 0.540, 3: 0.190, 2: 0.180, 6: 0.050, 5: 0.036, 8: 0.0038, 7: 0.0002}
ADMISSION_SOURCES: Final = {
    **{7: 0.580, 1: 0.290, 17: 0.050, 4: 0.031, 6: 0.021, 2: 0.011, 5: 0.009, 3: 0.004, 20: 0.002},
    **{9: 0.001, 8: 0.0004, 22: 0.0003, 10: 0.0002, 14: 0.0001},
}
EXPIRED: Final = 11
DISCHARGES: Final = {
    **{1: 0.60, 3: 0.14, 6: 0.13, 18: 0.04, 2: 0.02, 22: 0.02, 5: 0.012, 25: 0.01, 4: 0.008, 7: 0.006},
    **{23: 0.004, 13: 0.004, 14: 0.0035, 28: 0.0015, 8: 0.001, 15: 0.0006, 24: 0.0005, 9: 0.0002, 17: 0.0002},
}
GLUCOSE: Final = {"None": 0.972, ">200": 0.015, ">300": 0.013}
A1C: Final = {"None": 0.83, ">8": 0.08, "Norm": 0.05, ">7": 0.04}

MEDICATIONS: Final = {
    "metformin": 0.20,
    "repaglinide": 0.016,
    "nateglinide": 0.007,
    "chlorpropamide": 0.001,
    "glimepiride": 0.052,
    "acetohexamide": 0.00002,
    "glipizide": 0.125,
    "glyburide": 0.105,
    "tolbutamide": 0.0003,
    "pioglitazone": 0.073,
    "rosiglitazone": 0.063,
    "acarbose": 0.003,
    "miglitol": 0.0004,
    "troglitazone": 0.00004,
    "tolazamide": 0.0004,
    "examide": 0.0,
    "citoglipton": 0.0,
    "insulin": 0.53,
    "glyburide_metformin": 0.007,
    "glipizide_metformin": 0.0002,
    "glimepiride_pioglitazone": 0.00002,
    "metformin_rosiglitazone": 0.00004,
    "metformin_pioglitazone": 0.00002,
}
"""Share of stays that prescribe each, in the order of the hospital's table."""
DOSES: Final = {"Steady": 0.86, "Up": 0.08, "Down": 0.06}
INSULIN_DOSES: Final = {"Steady": 0.56, "Up": 0.21, "Down": 0.23}
