"""Reading numbers with units, and comparing them after conversion."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import unit_names
from rewards.quantity import difference, read_quantities, read_quantity
from rewards.units import MAX_CHARS, read_unit


def same(wanted: str, found: str, **rules: float | bool) -> bool:
    a, b = read_quantity(wanted), read_quantity(found)
    assert a is not None, wanted
    return b is not None and difference(a, b, **rules) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text,value",
    [
        ("7", 7),
        ("-7.50", Fraction(-15, 2)),
        ("\u22127", -7),
        (".5", Fraction(1, 2)),
        ("1,234,567", 1234567),
        ("1 234 567", 1234567),
        ("1.2e5", 120000),
        ("1.2E+05", 120000),
        ("1.2x10^5", 120000),
        ("1.2 * 10^{5}", 120000),
        ("1.2×10⁵", 120000),
        (r"$1.2\times10^{5}$", 120000),
        (r"1.2 \cdot 10^5", 120000),
        ("1.2·10**5", 120000),
        ("1.2×10⁻³", Fraction(12, 10000)),
        ("1.0×10-7", Fraction(1, 10**7)),
        ("10⁵", 100000),
        ("-10^-20", -Fraction(1, 10**20)),
        ("3 million", 3000000),
        ("1.5亿", 150000000),
        (r"\frac{1}{2}", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("about 5", 5),
        ("约为5", 5),
        ("≈ 5", 5),
    ],
)
def test_numerals_are_read_in_all_their_forms(text: str, value: Fraction) -> None:
    quantity = read_quantity(text)
    assert quantity is not None
    assert quantity.value == value
    assert quantity.unit is None


@given(st.integers(-(10**12), 10**12), st.integers(-30, 30))
def test_scientific_notation_is_exact(mantissa: int, exponent: int) -> None:
    value = mantissa * Fraction(10) ** exponent
    for text in (f"{mantissa}e{exponent}", f"{mantissa}×10^{{{exponent}}}", rf"${mantissa} \times 10^{{{exponent}}}$"):
        quantity = read_quantity(text)
        assert quantity is not None
        assert quantity.value == value


# Exact by definition (SI brochure, 9th edition; international yard and pound; IUPAC) or CODATA 2018.
DEFINITIONS = [
    ("1 in", 0.0254, "m"),
    ("1 ft", 0.3048, "m"),
    ("1 mi", 1609.344, "m"),
    ("1 nmi", 1852, "m"),
    ("1 Å", 1e-10, "m"),
    ("1 ly", 9460730472580800, "m"),
    ("1 AU", 149597870700, "m"),
    ("1 lb", 0.45359237, "kg"),
    ("1 t", 1000, "kg"),
    ("1 u", 1.66053906660e-27, "kg"),
    ("1 min", 60, "s"),
    ("1 d", 86400, "s"),
    ("1 L", 1e-3, "m^3"),
    ("1 ha", 1e4, "m^2"),
    ("1 atm", 101325, "Pa"),
    ("1 bar", 1e5, "Pa"),
    ("760 Torr", 101325, "Pa"),
    ("1 cal", 4.184, "J"),
    ("1 kWh", 3.6e6, "J"),
    ("1 eV", 1.602176634e-19, "J"),
    ("1 erg", 1e-7, "J"),
    ("1 dyn", 1e-5, "N"),
    ("1 kgf", 9.80665, "N"),
    ("1 G", 1e-4, "T"),
    ("1 Ci", 3.7e10, "Bq"),
    ("1 mM", 1, "mol/m^3"),
    ("1 km/h", 1 / 3.6, "m/s"),
    ("1 mph", 0.44704, "m/s"),
    ("1 kn", 1852 / 3600, "m/s"),
    ("1 c", 299792458, "m/s"),
    ("1 P", 0.1, "Pa·s"),
    ("1 D", 1, "1/m"),
    ("180°", 3.141592653589793, "rad"),
    ("1 rpm", 0.10471975511965977, "rad/s"),
    ("1%", 0.01, ""),
    ("1 ppm", 1e-6, ""),
]


@pytest.mark.parametrize("text,size,unit", DEFINITIONS)
def test_units_have_their_defined_size(text: str, size: float, unit: str) -> None:
    quantity = read_quantity(text)
    assert quantity is not None
    assert quantity.unit is not None
    assert quantity.value is not None
    base = read_unit(unit) if unit else None
    assert quantity.unit.dimensions == (base.dimensions if base else ())
    assert float(quantity.value) * quantity.unit.factor == pytest.approx(size * (base.factor if base else 1), rel=1e-6)


@pytest.mark.parametrize(
    "forms",
    [
        (
            "m/s^2",
            "m/s²",
            "m s^-2",
            "m·s⁻²",
            r"\mathrm{m\,s^{-2}}",
            r"\frac{m}{s^2}",
            "m/s/s",
            "m s-2",
            "metres per second squared",
            "米/秒²",
        ),
        ("J/(mol·K)", "J/mol/K", "J mol^{-1} K^{-1}", "J/mol·K", "J/mol K", r"\mathrm{J \cdot mol^{-1} \cdot K^{-1}}"),
        ("kPa", "kilopascal", "kilopascals", "KPa", "千帕"),
        ("km/h", "kmh", "kph", "kilometers per hour", "千米/小时", "千米每小时", "公里每小时"),
        ("μm", "µm", "um", r"\mu m", r"\mu\mathrm{m}", "micrometers", "微米"),
        ("Ω", "\u2126", "ohm", "ohms", r"\Omega", "欧姆"),
        ("°C", "℃", r"^\circ C", r"^{\circ}\mathrm{C}", "degrees Celsius", "摄氏度"),
        ("N·m", "N m", "Nm", "N*m", "newton meters", "牛·米", "牛顿米"),
        ("m^2", "m2", "m²", "square meters", "sq m", "平方米"),
        ("cm^3", "cm³", "cubic centimeters", "立方厘米", "mL"),
        ("1/s", "s^-1", "s⁻¹", "per second"),
        ("mmHg", "mm Hg", "毫米汞柱"),
        ("kg.m/s2", "kg·m/s²", "kg m s^{-2}", r"\text{kg}\cdot\text{m}/\text{s}^2"),
    ],
)
def test_one_unit_is_read_from_all_its_spellings(forms: tuple[str, ...]) -> None:
    units = [read_unit(form) for form in forms]
    assert None not in units
    first = units[0]
    assert first is not None
    for form, unit in zip(forms, units, strict=True):
        assert unit is not None
        assert unit.dimensions == first.dimensions, form
        assert unit.factor == pytest.approx(first.factor), form
        assert unit.offset == first.offset, form


@pytest.mark.parametrize(
    "wanted,found", [("5 mW", "5 MW"), ("5 mm", "5 Mm"), ("5 mN", "5 MN"), ("5 s", "5 S"), ("5 k", "5 K"), ("5 ft", "5 fT")]
)
def test_case_tells_prefixes_and_units_apart(wanted: str, found: str) -> None:
    b = read_quantity(found)
    a = read_quantity(wanted)
    assert a is None or b is None or difference(a, b) is not None


@pytest.mark.parametrize(
    "wanted,found",
    [
        ("5 Hz", "5 Bq"),
        ("5 Gy", "5 Sv"),
        ("5 rad/s", "5 Hz"),
        ("5 N", "5 kg"),
        ("100 m", "100 cm"),
        ("1 km", "1 m"),
        ("10^-20", "10^-21"),
        ("0 °C", "0 K"),
        ("3 dB", "3 dBm"),
        ("25 °C", "299 K"),
        ("25 °C", "26 °C"),
    ],
)
def test_other_quantities_differ(wanted: str, found: str) -> None:
    assert not same(wanted, found)


@pytest.mark.parametrize(
    "celsius,kelvin,fahrenheit",
    [(0, 273.15, 32), (25, 298.15, 77), (100, 373.15, 212), (-40, 233.15, -40), (-273.15, 0, -459.67)],
)
def test_temperature_scales_have_their_own_zero(celsius: float, kelvin: float, fahrenheit: float) -> None:
    forms = [f"{celsius} °C", f"{kelvin} K", f"{fahrenheit} °F"]
    for wanted in forms:
        for found in forms:
            assert same(wanted, found), (wanted, found)


def test_the_school_constant_273_is_good_enough_between_scales() -> None:
    assert same("25 °C", "298 K")
    assert not same("25 °C", "298.5 K")


def test_temperature_differences_have_no_zero() -> None:
    assert same("10 °C", "10 K", is_interval=True)
    assert not same("10 °C", "10 K")


def test_tolerance_is_relative_to_the_reference() -> None:
    assert same("9.8 m/s^2", "9.81 m/s^2")
    assert not same("9.8 m/s^2", "9.86 m/s^2")
    assert same("9.8 m/s^2", "9.86 m/s^2", rtol=0.01)
    assert not same("9.8 m/s^2", "9.81 m/s^2", rtol=0.0)
    assert same("0 m", "0.05 m", atol=0.1)
    assert not same("0 m", "0.05 m")


def test_short_whole_numbers_of_one_unit_must_be_the_same() -> None:
    assert not same("300 g", "301 g")
    assert same("300 g", "301 g", rtol=0.01)
    assert same("300 g", "300.9 g")
    assert not same("1000", "1006")


def test_conversion_is_exact_enough_for_a_tolerance_of_zero() -> None:
    assert same("0.001 mol/L", "1 mM", rtol=0.0)
    assert same("36 km/h", "10 m/s", rtol=0.0)


@pytest.mark.parametrize(
    "text,label,direction",
    [
        ("F = 10 N", "F", None),
        (r"\vec{F} = 10 N", "F", None),
        ("pH = 7", "pH", None),
        ("pH 7", "pH", None),
        ("a = F/m = 5 m/s^2", "a", None),
        ("v ≈ 3 m/s", "v", None),
        ("10 m/s, east", None, "east"),
        ("5 N to the left", None, "left"),
        ("5N，方向向右", None, "right"),
    ],
)
def test_labels_and_directions_are_read(text: str, label: str | None, direction: str | None) -> None:
    quantity = read_quantity(text)
    assert quantity is not None
    assert quantity.label == label or (quantity.label or "").startswith(str(label))
    assert quantity.direction == direction


@pytest.mark.parametrize("text", ["(5 m)", "{5 m}", "{{5} m}", "5 {m}"])
def test_brackets_around_a_quantity_mean_nothing(text: str) -> None:
    assert same("5 m", text, rtol=0)


@pytest.mark.parametrize("text,seconds", [("1 h 30 min", 5400), ("2分30秒", 150), ("1 min 30 s", 90), ("1 day 2 h", 93600)])
def test_units_of_falling_size_add_up(text: str, seconds: int) -> None:
    assert same(f"{seconds} s", text, rtol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "N or J",
            "5 or 6 N",
            "5 N or 6 N",
            "between 5 and 6 N",
            "very close to the speed of light",
            "nan",
            "inf N",
            "5 m^100",
        ),
        *(
            "5 apples",
            "5 MM",
            "5 m 6 m",
            "30 min 1 h",
            "1 h 30",
            "1 m 2 s",
            "3 = 7",
            "10 N = 5 N",
            "not 5 N",
            "a number: between 0 and 10",
            "5 m or",
            "5 m/",
            "5 ((m",
        ),
        *(
            "5 N, maybe 6",
            "1e9999999 m",
            "1e9999 m",
            "9^9^9 m",
            "5 m" + "·m" * 60,
            "x" * (MAX_CHARS + 1),
            "1" * 5000,
            "5 米果",
            "1 ft -3 in",
            "=5=",
            "a>b=5",
        ),
    ],
)
def test_what_is_not_one_quantity_is_refused(text: str) -> None:
    assert read_quantity(text) is None


def test_lists_are_read_whole_or_not_at_all() -> None:
    assert [str(q.value) for q in read_quantities("5 m, 6 m and 7 m")] == ["5", "6", "7"]
    assert len(read_quantities("1,000 m")) == 1
    assert read_quantities("5 m, apples") == ()
    assert read_quantities("1 m, " * 40 + "1 m") == ()
    assert read_quantities("x" * (MAX_CHARS + 1)) == ()


def test_a_quantity_prints_its_number_and_base_units() -> None:
    assert str(read_quantity("F = 5 kN to the left")) == "F = 5 x 1000 [length]^1 [mass]^1 [time]^-2 left"
    assert str(read_quantity("25 °C")).endswith("+ 273.15")
    assert str(read_quantity("1e400 m")).startswith("huge")


def test_pint_knows_every_name_of_the_tables() -> None:
    for prefix, unit in unit_names.every_name():
        assert unit_names.by_pint(prefix, unit).factor > 0


@given(st.text(max_size=60) | st.text("0123456789.^{}-+×·/ mskgNPaJ°C%=()米每\\frac", max_size=40))
def test_reading_never_raises(text: str) -> None:
    read_quantities(text)


@given(
    st.sampled_from(["m", "km", "mm", "in", "ft", "μm"]),
    st.sampled_from(["m", "km", "mm", "in", "ft", "μm"]),
    st.decimals("0.001", "1000", places=3),
)
def test_conversion_there_and_back_is_the_same_length(one: str, other: str, size: object) -> None:
    a, b = read_unit(one), read_unit(other)
    assert a is not None
    assert b is not None
    converted = float(str(size)) * a.factor / b.factor
    assert same(f"{size} {one}", f"{converted!r} {other}", rtol=1e-6) or float(str(size)) == 0
