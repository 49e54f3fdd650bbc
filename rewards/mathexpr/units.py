"""Units that answers carry: enough to tell centimetres from metres. The full system of units belongs to physics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

F = Fraction
_POUND = F(45359237, 100000)
# name -> (dimension, factor to the dimension's reference unit)
_TABLE: dict[str, tuple[str, Fraction]] = {}


def _define(dimension: str, factor: Fraction | int, names: str) -> None:
    for name in names.split(","):
        _TABLE[name.strip()] = (dimension, F(factor))


_define("length", 1, "m,meter,meters,metre,metres,米")
_define("length", F(1, 10), "dm,decimeter,decimeters,decimetre,decimetres,分米")
_define("length", F(1, 100), "cm,centimeter,centimeters,centimetre,centimetres,厘米")
_define("length", F(1, 1000), "mm,millimeter,millimeters,millimetre,millimetres,毫米")
_define("length", 1000, "km,kilometer,kilometers,kilometre,kilometres,千米,公里")
_define("length", F(254, 10000), "inch,inches")
_define("length", F(3048, 10000), "ft,foot,feet")
_define("length", F(9144, 10000), "yd,yard,yards")
_define("length", F(1609344, 1000), "mi,mile,miles")
_define("length", F(1, 10**6), "µm,μm,micrometer,micrometers,micrometre,micrometres,微米")
_define("length", F(1, 10**9), "nm,nanometer,nanometers,纳米")
_define("mass", 1, "g,gram,grams,克")
_define("mass", F(1, 1000), "mg,milligram,milligrams")
_define("mass", 1000, "kg,kilogram,kilograms,千克,公斤")
_define("mass", 1000000, "ton,tons,tonne,tonnes,吨")
_define("mass", _POUND, "lb,lbs,pound,pounds")
_define("mass", F(45359237, 1600000), "oz,ounce,ounces")
_define("time", 1, "s,sec,second,seconds,秒")
_define("time", 60, "min,mins,minute,minutes,分钟")
_define("time", 3600, "h,hr,hrs,hour,hours,小时,时")
_define("time", 86400, "day,days,天")
_define("time", 604800, "week,weeks")
_define("years", 1, "year,years,yr,yrs,年")
_define("years", F(1, 12), "month,months")
_define("volume", F(1, 1000), "L,l,liter,liters,litre,litres,升")
_define("volume", F(1, 1000000), "mL,ml,milliliter,milliliters,millilitre,millilitres,毫升")
_define("USD", 1, "$,USD,dollar,dollars")
_define("USD", F(1, 100), "cent,cents,¢")
_define("EUR", 1, "€,EUR,euro,euros")
_define("GBP", 1, "£,GBP")
_define("GBP", F(1, 100), "pence,penny")
_define("CNY", 1, "¥,yuan,RMB,CNY,元,块钱,人民币")
_define("CNY", F(1, 10), "角")
_define("INR", 1, "rupee,rupees,Rs")
_define("force", 1, "N,newton,newtons")
_define("energy", 1, "J,joule,joules")
_define("energy", 1000, "kJ")
_define("power", 1, "W,watt,watts")
_define("potential", 1, "V,volt,volts")
_define("current", 1, "A,amp,amps,ampere,amperes")
_define("frequency", 1, "Hz,hertz")
_define("temperature", 1, "K,kelvin")
_define("speed", F(1609344, 3600000), "mph")
_define("speed", F(1000, 3600), "kmph,kph")
_define("percent", 1, "percent,percentage")
_define("degree", 1, "degree,degrees,deg")
_define("radian", 1, "radian,radians,rad,弧度")
_define(
    "count",
    1,
    "unit,units,个,人,只,种,条,张,本,次,件,枚,名,位,辆,棵,头,块,支,套,组,颗,座,间,份,朵,杯,盒,箱,袋,根,页,道,题,场,步,级,种方法,种情况,个数",
)

UNIT_NAMES = frozenset(_TABLE)
CURRENCY = "$€£¥"
_COMPOUND = {"length": (("length", 1),), "volume": (("length", 3),), "speed": (("length", 1), ("time", -1))}


@dataclass(frozen=True, slots=True)
class Unit:
    """Dimensions with their powers, and the factor to reference units. A noun ("apples") is a dimension of its own."""

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction

    @property
    def is_radian(self) -> bool:
        return self.dimensions == (("radian", 1),)


def conversion(unit: Unit, wanted: Unit) -> Fraction | None:
    """How many `wanted` one `unit` is; None when they measure different things.

    A counting word says only that things are counted: 12种 are 12 ways. "Pound" is a weight or a currency.
    """
    if unit.dimensions == wanted.dimensions:
        return unit.factor / wanted.factor
    kinds = {unit.dimensions, wanted.dimensions}
    if (("count", 1),) in kinds and all(len(kind) == 1 and kind[0][0].startswith(("count", "noun:")) for kind in kinds):
        return F(1)
    if kinds == {(("GBP", 1),), (("mass", 1),)} and _POUND in (unit.factor, wanted.factor):
        return F(1) if {unit.factor, wanted.factor} == {F(1), _POUND} else None
    return None


_STEP = re.compile(
    r"([*/·]|\bper\b)?\s*(square|cubic|sq|cu|平方|立方)?\s*([^\W\d_]+|[$€£¥¢])\s*(squared|cubed)?(?:\^?\{?(-?[1-4])\}?)?\s*\.?\s*"
)


def read_unit(text: str, *, known: bool = False) -> Unit | None:
    """The unit written as `text` ("km/h", "cm^2", "square metres", "apples"), or None when it is not one.

    known: take names of the table only, and no noun for a unit of its own.
    """
    text = " ".join(text.split())
    if not text or len(text) > 60:
        return None
    dimensions: dict[str, int] = {}
    factor = F(1)
    at, over = 0, False
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match.end() == at:
            return None
        at = match.end()
        over = over or match.group(1) in ("/", "per")
        prefix = {"square": 2, "sq": 2, "平方": 2, "cubic": 3, "cu": 3, "立方": 3}.get(match.group(2) or "", 1)
        power = int(match.group(5) or {"squared": 2, "cubed": 3}.get(match.group(4) or "", prefix))
        power = -power if over else power
        name = match.group(3)
        entry = _TABLE.get(name) or _TABLE.get(name.casefold())
        if entry is None and known:
            return None
        dimension, scale = entry or (_noun(name), F(1))
        factor *= scale**power
        for base, times in _COMPOUND.get(dimension, ((dimension, 1),)):
            dimensions[base] = dimensions.get(base, 0) + times * power
    return Unit(tuple(sorted((name, power) for name, power in dimensions.items() if power)), factor)


def _noun(word: str) -> str:
    """A noun as its own dimension; singular and plural are one."""
    word = word.casefold()
    return "noun:" + (word[:-1] if word.endswith("s") and len(word) > 3 else word)
