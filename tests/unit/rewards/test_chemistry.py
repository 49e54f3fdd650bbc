"""Chemical formulae and equations: what is the same, and what only looks so."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.chemical_formula import read_formula, same_formula
from rewards.chemistry import is_balanced, read_equation, same_equation
from rewards.substances import ATOMIC_NUMBER, SYMBOLS, named


@pytest.mark.parametrize(
    "forms",
    [
        ("H2O", "H₂O", r"\ce{H2O}", r"$\mathrm{H_2O}$", r"H_{2}O", " H2O. "),
        ("SO4^2-", "SO42-", "SO₄²⁻", r"\mathrm{SO_4^{2-}}", r"\ce{SO4^2-}", "SO4 2-", "SO4(2-)"),
        ("Fe3+", "Fe^{3+}", "Fe³⁺", "Fe^+3", r"\ce{Fe^3+}"),
        ("NH4+", "NH4^+", "NH₄⁺", r"NH_4^{+}"),
        ("Fe^{2+}", "Fe++", "Fe2+"),
        ("SO4^2-", "SO4--"),
        ("(C2H4)n", "(C2H4)_n", "(C_2H_4)_{n}"),
        ("Cr2O72-", "Cr2O7^2-", "Cr₂O₇²⁻"),
        ("Hg22+", "Hg2^2+", "Hg₂²⁺"),
        ("[Cu(NH3)4]2+", r"[Cu(NH_3)_4]^{2+}", "Cu(NH3)4^2+"),
        ("CuSO4·5H2O", r"CuSO_4\cdot 5H_2O", "CuSO4.5H2O", "CuSO4*5H2O", "CuSO₄•5H₂O"),
        ("^{14}C", "¹⁴C", "C-14", r"^{14}_{6}\mathrm{C}", "_6^{14}C"),
        ("C2H5OH", "CH3CH2OH", "CH3-CH2-OH", "HOCH2CH3"),
        ("CH3COOH", "CH3CO2H", "CH₃COOH"),
        ("CH3(CH2)2CH3", "CH3CH2CH2CH3"),
        ("e-", "e^-", "e⁻"),
        ("D2O", "^2H2O"),
    ],
)
def test_writings_of_one_formula_are_the_same(forms: tuple[str, ...]) -> None:
    for one in forms:
        for other in forms:
            a, b = read_formula(one), read_formula(other)
            assert a is not None, one
            assert b is not None, other
            assert same_formula(a, b) is None, (one, other)


@pytest.mark.parametrize(
    "one,other,reason",
    [
        ("CO", "Co", "different-formula"),
        ("C2H5OH", "CH3OCH3", "different-formula"),
        ("C2H5OH", "C2H6O", "different-formula"),
        ("CaO2H2", "Ca(OH)2", "different-formula"),
        ("H2O", "OH2", "different-formula"),
        ("H2O", "2H2O", "different-coefficients"),
        ("CuSO4·5H2O", "CuSO4·4H2O", "different-formula"),
        ("CuSO4·5H2O", "CuSO4", "different-formula"),
        ("Fe^{3+}", "Fe^{2+}", "charge-differs"),
        ("Cl-", "Cl", "charge-differs"),
        ("Fe^{3+}", "Fe++", "charge-differs"),
        ("(C2H4)n", "C2H4", "different-formula"),
        ("(C2H4)n", "(C2H4)2", "different-formula"),
        ("H2O(l)", "H2O(g)", "state-differs"),
        ("H2O(l)", "H2O", "state-differs"),
        ("CO2↑", "CO2(s)", "state-differs"),
        ("^{14}C", "^{12}C", "different-formula"),
        ("^{14}C", "C", "different-formula"),
    ],
)
def test_formulae_that_differ(one: str, other: str, reason: str) -> None:
    a, b = read_formula(one), read_formula(other)
    assert a is not None
    assert b is not None
    assert same_formula(a, b) == reason


@pytest.mark.parametrize(
    "reference,answer",
    [("H2SO4", "H2SO4(aq)"), ("CO2↑", "CO2"), ("CO2↑", "CO2(g)"), ("AgCl↓", "AgCl(s)"), ("AgCl(s)", "AgCl↓")],
)
def test_a_state_may_be_added_and_an_arrow_left_out(reference: str, answer: str) -> None:
    a, b = read_formula(reference), read_formula(answer)
    assert a is not None
    assert b is not None
    assert same_formula(a, b) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "mitosis",
        "V = IR",
        "h2o",
        "Xx2",
        "H2O, CO2",
        "H2O or CO2",
        "H2O + CO2",
        "Fe(III)",
        "(H2O",
        "H2O)",
        "()2",
        "H0",
        "H2O^{99x}",
        "1/0H2O",
        "(" * 300 + "H" + ")" * 300,
        "((((((H99)99)99)99)99)99)",
        "H" * 700,
        "^{14}_7C",
        "^{3}_1n",
        "-",
        "H^+^-",
        "0H2O",
    ],
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    assert read_formula(text) is None


EQUATIONS = [
    ("2Na + Cl2 = 2NaCl", "2Na + Cl2 → 2NaCl"),
    ("I2 + H2 ⇌ 2HI", "H2 + I2 <=> 2HI"),
    ("2H2 + O2 = 2H2O", "H2 + 0.5 O2 → H2O"),
    ("2H2 + O2 = 2H2O", "H2 + ½O2 → H2O"),
    ("2H2 + O2 = 2H2O", r"H_2 + \frac{1}{2}O_2 \longrightarrow H_2O"),
    ("2H2 + O2 = 2H2O", r"\ce{2H2 + O2 ->[\Delta] 2H2O}"),
    ("2H2 + O2 = 2H2O", r"2H_2 + O_2 \xrightarrow[Pt]{\Delta} 2H_2O"),
    ("2H2 + O2 = 2H2O", "2H2+O2=点燃=2H2O"),
    ("2H2 + O2 = 2H2O", "O2 + H2 + H2 → 2H2O"),
    ("2KClO3 = 2KCl + 3O2↑", r"2KClO3 \overset{MnO2}{\underset{\Delta}{=}} 2KCl + 3O2↑"),
    ("2H2O = 2H2↑ + O2↑", "2H2O ==通电== 2H2 + O2"),
    ("C + O2 = CO2", "C + O2 —点燃→ CO2"),
    ("6CO2 + 6H2O → C6H12O6 + 6O2", "6CO2 + 6H2O --(light)--> C6H12O6 + 6O2"),
    ("Ag+ + Cl- = AgCl↓", "Ag++Cl-=AgCl"),
    ("Ba2+ + SO42- = BaSO4↓", r"Ba^{2+} + SO_4^{2-} → BaSO_4"),
    ("MnO4- + 8H+ + 5Fe2+ → Mn2+ + 5Fe3+ + 4H2O", "5Fe²⁺ + MnO₄⁻ + 8H⁺ → 5Fe³⁺ + Mn²⁺ + 4H₂O"),
    ("^{238}_{92}U → ^{234}_{90}Th + ^4_2He", "U-238 → Th-234 + α"),
    ("^{14}_6C → ^{14}_7N + ^0_{-1}e", "C-14 -> N-14 + β^-"),
    (
        r"^{235}_{92}U + ^1_0n \to ^{141}_{56}Ba + ^{92}_{36}Kr + 3^1_0n",
        "^1_0n + ^{235}_{92}U → ^{92}_{36}Kr + ^{141}_{56}Ba + 3n",
    ),
    ("2H+ + 2e- → H2", "2H^+ + 2e^- = H2"),
]


@pytest.mark.parametrize("one,other", EQUATIONS)
def test_writings_of_one_reaction_are_the_same(one: str, other: str) -> None:
    a, b = read_equation(one), read_equation(other)
    assert a is not None
    assert b is not None
    assert same_equation(a, b) is None
    assert same_equation(b, a) is None or "↑" in one + other or "↓" in one + other
    assert is_balanced(a)
    assert is_balanced(b)


@pytest.mark.parametrize(
    "one,other,reason",
    [
        ("2H2 + O2 → 2H2O", "H2 + O2 → H2O", "not-balanced"),
        ("2H2 + O2 → 2H2O", "2H2O → 2H2 + O2", "different-species"),
        ("2H2 + O2 → 2H2O", "H2 + O2 → H2O2", "different-species"),
        ("2H2 + O2 → 2H2O", "2H2 + O2 → 2H2O + N2", "different-species"),
        ("H2O ⇌ H+ + O2-", "H2O ⇌ H+ + OH-", "different-species"),
        ("2H2(g) + O2(g) → 2H2O(l)", "2H2(g) + O2(g) → 2H2O(g)", "state-differs"),
        ("2H2(g) + O2(g) → 2H2O(l)", "2H2 + O2 → 2H2O", "state-differs"),
        ("2Fe3+ + Fe → 3Fe2+", "2Fe^{3+} + Fe → 3Fe", "charge-differs"),
        ("2C + O2 → 2CO", "C + O2 → CO2", "different-species"),
        ("C + 2O2 + 2H2 → CO2 + 2H2O", "3C + 4O2 + 2H2 → 3CO2 + 2H2O", "different-coefficients"),
    ],
)
def test_reactions_that_differ(one: str, other: str, reason: str) -> None:
    a, b = read_equation(one), read_equation(other)
    assert a is not None
    assert b is not None
    assert same_equation(a, b) == reason


@pytest.mark.parametrize(
    "text",
    [
        "F = ma",
        "P = IV",
        "U = W/Q",
        "H = U + PV",
        "V = IR",
        "PV = nRT",
        "E = mc^2",
        "pH = 7",
        "CH2=CH2",
        "A → B → C",
        "→",
        "H2 →",
        "x" * 700,
        " + ".join(["H"] * 40) + " → H40",
        "2 + 2 = 4",
        "mitosis",
    ],
)
def test_what_is_no_reaction_is_refused(text: str) -> None:
    assert read_equation(text) is None


def test_the_heat_of_reaction_is_kept_apart() -> None:
    equation = read_equation("H2(g) + 1/2O2(g) = H2O(l)  ΔH = -285.8 kJ/mol")
    assert equation is not None
    assert equation.heat == "-285.8 kJ/mol"
    assert str(equation) == "H2(g) + 1/2O2(g) -> H2O(l)"


def atoms(side: str) -> Counter[str]:
    """Atoms of a side without groups and charges, counted by a second parser: one regular expression."""
    total: Counter[str] = Counter()
    for term in side.split(" + "):
        coefficient, formula = re.fullmatch(r"(\d*)(.*)", term).groups()  # type: ignore[union-attr]
        for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula):
            total[symbol] += int(coefficient or 1) * int(count or 1)
    return total


@pytest.mark.parametrize(
    ("text", "balanced"),
    [
        ("CuSO4·5H2O → CuSO4 + 5H2O", True),
        ("CuSO4·5H2O → CuSO4 + 4H2O", False),
        ("2CuSO4·5H2O → 2CuSO4 + 10H2O", True),
        ("2CuSO4·5H2O → 2CuSO4 + 5H2O", False),
        ("KAl(SO4)2·12H2O → KAl(SO4)2 + 12H2O", True),
    ],
)
def test_water_of_crystals_is_counted_as_often_as_it_is_written(text: str, balanced: bool) -> None:
    equation = read_equation(text)
    assert equation is not None
    assert is_balanced(equation) is balanced


SPECIES = st.sampled_from(["H2", "O2", "H2O", "CO2", "CO", "C", "N2", "NH3", "Fe2O3", "Fe", "NaCl", "Na", "Cl2", "CH4"])
TERMS = st.lists(st.tuples(st.integers(1, 9), SPECIES), min_size=1, max_size=4, unique_by=lambda term: term[1])


def written(terms: list[tuple[int, str]], factor: int = 1) -> str:
    return " + ".join(f"{n * factor if n * factor > 1 else ''}{formula}" for n, formula in terms)


@given(TERMS, TERMS)
def test_balance_is_the_balance_of_counted_atoms(left: list[tuple[int, str]], right: list[tuple[int, str]]) -> None:
    equation = read_equation(f"{written(left)} → {written(right)}")
    assert equation is not None
    assert is_balanced(equation) == (atoms(written(left)) == atoms(written(right)))


@given(TERMS, TERMS, st.integers(2, 7))
def test_order_and_a_common_factor_do_not_matter_but_one_coefficient_does(
    left: list[tuple[int, str]], right: list[tuple[int, str]], factor: int
) -> None:
    one = read_equation(f"{written(left)} → {written(right)}")
    mixed = sorted(left, key=lambda term: (term[0] * factor % 5, term[1])), right[::-1]
    other = read_equation(f"{written(mixed[0], factor)} → {written(mixed[1], factor)}")
    changed = read_equation(f"{written([(left[0][0] + 1, left[0][1]), *left[1:]])} → {written(right)}")
    assert one is not None
    assert other is not None
    assert changed is not None
    assert same_equation(one, other) is None
    assert same_equation(one, changed) is not None


@given(st.text(max_size=60) | st.text("HONaCl0123456789()[]+-^{}_→= \\ce·.α", max_size=60))
def test_reading_never_raises(text: str) -> None:
    read_formula(text)
    read_equation(text)


def test_the_periodic_table_is_whole() -> None:
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 118
    assert [ATOMIC_NUMBER[s] for s in ("H", "C", "O", "Fe", "Ag", "Au", "U", "Og")] == [1, 6, 8, 26, 47, 79, 92, 118]


@pytest.mark.parametrize(
    "name,formula",
    [
        ("生石灰", "CaO"),
        ("Calcium Oxide", "CaO"),
        ("quicklime", "CaO"),
        ("氢氧化钙", "Ca(OH)2"),
        ("熟石灰", "Ca(OH)2"),
        ("aluminium sulphate", "Al2(SO4)3"),
        ("iron(III) oxide", "Fe2O3"),
        ("Iron (II) chloride", "FeCl2"),
        ("氯化亚铁", "FeCl2"),
        ("碳酸氢钠", "NaHCO3"),
        ("ammonium nitrate", "NH4NO3"),
        ("magnesium nitride", "Mg3N2"),
        ("氧气", "O2"),
        ("oxygen", "O2"),
        ("tungsten", "W"),
        ("钨", "W"),
    ],
)
def test_names_give_their_formulae(name: str, formula: str) -> None:
    assert formula in named(name).formulae


def test_substances_of_one_formula_are_not_each_other() -> None:
    assert not named("graphite").identities & named("diamond").identities
    assert not named("glucose").identities & named("fructose").identities
    assert named("quicklime").identities & named("氧化钙").identities
    assert named("phlogiston").formulae == frozenset()


def test_formulae_of_the_name_table_can_be_read() -> None:
    for name in ("生石灰", "blue vitriol", "alum", "plaster of paris", "malachite", "acetone", "urea", "ammonia water"):
        assert all(read_formula(formula) for formula in named(name).formulae)
        assert named(name).formulae
