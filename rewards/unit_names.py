"""Names of units, English and Chinese, symbols and words, and the pint units they stand for.

pint knows far more names than an answer should be read with ("m_e", "R", "k_B" are units to it), and its parser takes
arithmetic. So names are looked up here, and pint is only ever asked for a name of this module.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class AtomicUnit:
    """A unit without operators: 1 unit = `factor` base units, 0 of it = `offset` base units (temperature scales).

    `kind` tells apart quantities of one dimension that are not each other: a frequency is no activity.
    """

    factor: float
    offset: float
    dimensions: Dimensions
    kind: str | None = None


_PREFIXES = {
    **{"Y": "yotta", "Z": "zetta", "E": "exa", "P": "peta", "T": "tera", "G": "giga", "M": "mega", "k": "kilo", "K": "kilo"},
    **{"h": "hecto", "da": "deca", "d": "deci", "c": "centi", "m": "milli", "\u03bc": "micro", "u": "micro", "n": "nano"},
    **{"p": "pico", "f": "femto", "a": "atto", "z": "zepto", "y": "yocto"},
}
_CONCENTRATION_PREFIXES = ("m", "\u03bc", "u", "n", "p", "f")  # MM and KM are no concentrations
_CHINESE_PREFIXES = {
    **{"吉": "giga", "兆": "mega", "千": "kilo", "百": "hecto", "分": "deci"},
    **{"厘": "centi", "毫": "milli", "微": "micro", "纳": "nano", "皮": "pico"},
}

# Units that take prefixes: pint name: symbols | English words (a plural s is understood) | Chinese.
_PREFIXED = """
meter: m | meter metre | 米
gram: g | gram gramme | 克
second: s | second | 秒
ampere: A | ampere amp | 安培 安
kelvin: K | kelvin | 开尔文 开
mole: mol | mole mol | 摩尔 摩
candela: cd | candela | 坎德拉
hertz: Hz hz | hertz | 赫兹 赫
newton: N | newton | 牛顿 牛
pascal: Pa | pascal | 帕斯卡 帕
joule: J | joule | 焦耳 焦
watt: W | watt | 瓦特 瓦
coulomb: C | coulomb | 库仑 库
volt: V | volt | 伏特 伏
farad: F | farad | 法拉
ohm: \u03a9 | ohm | 欧姆 欧
siemens: S | siemens | 西门子
weber: Wb | weber | 韦伯
tesla: T | tesla | 特斯拉 特
henry: H | henry henrie | 亨利 亨
lumen: lm | lumen | 流明
lux: lx | lux | 勒克斯
becquerel: Bq | becquerel | 贝克勒尔
gray: Gy | gray | 戈瑞
sievert: Sv | sievert | 希沃特
katal: kat | katal |
liter: L l \u2113 | liter litre | 升
electron_volt: eV ev | electronvolt electron_volt | 电子伏特 电子伏
calorie: cal | calorie | 卡路里 卡
bar: bar | bar | 巴
metric_ton: t | tonne ton metric_ton | 吨
dalton: Da | dalton | 道尔顿
parsec: pc | parsec | 秒差距
torr: Torr torr | torr | 托
radian: rad | radian | 弧度
steradian: sr | steradian | 球面度
curie: Ci | curie | 居里
poise: P | poise | 泊
stokes: St | stokes |
byte: B | byte | 字节
watt*hour: Wh | | 瓦时
ampere*hour: Ah | | 安时
newton*meter: Nm |  | 牛米
newton*second: Ns | |
joule*second: Js | |
volt*ampere: VA | | 伏安
"""

# Units without prefixes.
_PLAIN = """
molar: M | molar |
minute: min mins | minute | 分钟 分
hour: h hr hrs | hour hr | 小时 时
day: d | day | 天 日
week: wk | week | 周 星期
year: yr yrs | year | 年
inch: in | inch inche | 英寸
foot: ft | foot feet | 英尺
yard: yd | yard | 码
mile: mi | mile | 英里
nautical_mile: nmi | nautical_mile | 海里
pound: lb lbs | pound | 磅
ounce: oz | ounce | 盎司
degree: \u00b0 deg | degree deg | 度
arcminute: ' \u2032 | arcminute arcmin | 角分
arcsecond: " \u2033 | arcsecond arcsec | 角秒
revolution: rev r | revolution turn | 转 圈
degree_Celsius: \u00b0C degC | celsius degree_celsius centigrade degree_centigrade | 摄氏度
degree_Fahrenheit: \u00b0F degF | fahrenheit degree_fahrenheit | 华氏度
degree_Rankine: \u00b0R | rankine |
percent: % | percent percentage |
ppm: ppm | ppm |
atmosphere: atm | atmosphere atm | 个大气压 大气压
centimeter_Hg: cmHg cm_Hg | |
millimeter_Hg: mmHg mm_Hg | millimeter_of_mercury millimetre_of_mercury | 毫米汞柱
inch_Hg: inHg | |
psi: psi | psi |
angstrom: \u00c5 | angstrom | 埃
light_year: ly | light_year lightyear | 光年
astronomical_unit: AU au | astronomical_unit | 天文单位
speed_of_light: c | |
unified_atomic_mass_unit: u amu | atomic_mass_unit | 原子质量单位
dyne: dyn | dyne | 达因
erg: erg | erg | 尔格
horsepower: hp | horsepower | 马力
british_thermal_unit: Btu BTU | |
kilogram_force: kgf | | 千克力 公斤力
pound_force: lbf | |
hectare: ha | hectare | 公顷
gallon: gal | gallon | 加仑
knot: kn kt | knot | 节
revolution/minute: rpm RPM | rpm | 转每分
revolution/second: rps | |
mile/hour: mph | mph |
kilometer/hour: kph kmh kmph | |
meter/second: mps | |
kilogram: KG | kilo | 公斤 千克
kilometer: | | 公里
kilocalorie: Cal | | 大卡
bit: bit | bit | 比特
"""
# Units pint defines otherwise than physics text books use them: a factor and a pint unit.
_SCALED = {
    **dict.fromkeys(("G", "Gs", "gauss", "高斯"), (1e-4, "tesla")),
    **dict.fromkeys(("D", "dpt", "diopter", "dioptre", "屈光度"), (1.0, "1/meter")),
    **{"\u2030": (1e-3, ""), "ppb": (1e-9, "")},
}
# Logarithmic levels are compared as they stand.
_LEVELS = {"dB": "decibel", "decibel": "decibel", "分贝": "decibel", "dBm": "dBm"}
_KINDS = {
    "hertz": "frequency",
    **dict.fromkeys(("becquerel", "curie"), "activity"),
    **dict.fromkeys(("radian", "degree", "arcminute", "arcsecond", "revolution"), "angle"),
    **dict.fromkeys(("revolution/minute", "revolution/second"), "angle"),
    **{"gray": "absorbed-dose", "sievert": "equivalent-dose"},
}
MULTIWORD = re.compile(
    r"\b(degrees?|electron|light|astronomical|atomic|nautical|metric|milli(?:meter|metre)s?|mm|cm)[ -]"
    r"(celsius|centigrade|fahrenheit|volts?|years?|units?|mass units?|miles?|tons?|of mercury|hg)\b",
    re.IGNORECASE,
)


def _entries(table: str) -> list[tuple[str, list[str], list[str], list[str]]]:
    rows = []
    for line in table.strip().splitlines():
        target, _, names = line.partition(": ")
        symbols, words, chinese = (part.split() for part in names.split("|"))
        rows.append((target.strip(), symbols, words, chinese))
    return rows


@functools.cache
def _names() -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """(prefix, pint unit) by symbol (case counts), by English word (folded) and by Chinese name."""
    symbols: dict[str, tuple[str, str]] = {}
    words: dict[str, tuple[str, str]] = {}
    chinese: dict[str, tuple[str, str]] = {}
    for target, marks, names, hanzi in _entries(_PREFIXED):
        for prefix, long in {**_PREFIXES, "": ""}.items():
            symbols.update((prefix + mark, (long, target)) for mark in marks)
        for long in {*_PREFIXES.values(), ""}:
            words.update((long + name, (long, target)) for name in names)
        for prefix, long in {**_CHINESE_PREFIXES, "": ""}.items():
            chinese.update((prefix + name, (long, target)) for name in hanzi)
    for prefix in _CONCENTRATION_PREFIXES:
        symbols[prefix + "M"] = (_PREFIXES[prefix], "molar")
        words[_PREFIXES[prefix] + "molar"] = (_PREFIXES[prefix], "molar")
    for target, marks, names, hanzi in _entries(_PLAIN):
        symbols.update((mark, ("", target)) for mark in marks)
        words.update((name, ("", target)) for name in names)
        chinese.update((name, ("", target)) for name in hanzi)
    return symbols, words, chinese


@functools.lru_cache(maxsize=4096)
def atomic_unit(name: str) -> AtomicUnit | None:
    """The unit called `name`, or None. Symbols are read by case (mW is not MW), words without."""
    if name in _SCALED:
        factor, target = _SCALED[name]
        found = by_pint("", target)
        return AtomicUnit(factor * found.factor, 0.0, found.dimensions)
    if name in _LEVELS:
        return AtomicUnit(1.0, 0.0, ((_LEVELS[name], 1),))
    symbols, words, chinese = _names()
    word = name.casefold()
    key = symbols.get(name) or chinese.get(name) or words.get(word)
    if key is None and len(word) > 3 and word.endswith("s"):
        key = words.get(word[:-1])
    if key is None and len(word) > 3 and word in _SCALED:
        return atomic_unit(word)
    return None if key is None else by_pint(*key)


def chinese_units(run: str) -> list[str] | None:
    """A run of Chinese characters as names of units, longest first (牛顿米 -> 牛顿, 米), or None."""
    names = _names()[2]
    found: list[str] = []
    at = 0
    while at < len(run):
        size = next((n for n in range(min(6, len(run) - at), 0, -1) if run[at : at + n] in names | _LEVELS | _SCALED), 0)
        if not size:
            return None
        found.append(run[at : at + size])
        at += size
    return found


@functools.cache
def _registry():  # type: ignore[no-untyped-def]
    import pint

    return pint.UnitRegistry(cache_folder=None)


@functools.cache
def by_pint(prefix: str, target: str) -> AtomicUnit:
    """Factor, offset and dimension of a prefix and a unit of the tables, from pint's definitions."""
    factor, offset = 1.0, 0.0
    dimensions: dict[str, int] = {}
    over, first = False, prefix
    for part in re.split(r"([*/])", target):
        if part in ("*", "/"):
            over = part == "/"
            continue
        if part in ("", "1"):
            continue
        unit, zero = (_registry().Quantity(float(n), first + part).to_base_units() for n in (1, 0))
        size = float(unit.magnitude) - float(zero.magnitude)
        factor *= 1 / size if over else size
        offset = float(zero.magnitude)
        for name, power in unit.dimensionality.items():
            dimensions[name] = dimensions.get(name, 0) + round(power) * (-1 if over else 1)
        first = ""
    kept = tuple(sorted((name, power) for name, power in dimensions.items() if power))
    return AtomicUnit(factor, offset, kept, _KINDS.get(target))


def every_name() -> list[tuple[str, str]]:
    """All (prefix, pint unit) pairs of the tables, for the tests."""
    return sorted({pair for names in _names() for pair in names.values()})
