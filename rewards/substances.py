"""Names of chemical elements and common substances, English and Chinese, and their formulae.

Names of salts, oxides and hydroxides are put together from their ions; the table below holds the names that are not
(trivial names, acids, gases, organic compounds). One name may stand for several formulae ("oxygen": O2, O).
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

from rewards.plain_text import fold

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru "
    "Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At "
    "Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS = tuple(_SYMBOLS.split())
ATOMIC_NUMBER = {symbol: number for number, symbol in enumerate(SYMBOLS, 1)}
_ENGLISH = (
    "hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium aluminum silicon "
    "phosphorus sulfur chlorine argon potassium calcium scandium titanium vanadium chromium manganese iron cobalt "
    "nickel copper zinc gallium germanium arsenic selenium bromine krypton rubidium strontium yttrium zirconium "
    "niobium molybdenum technetium ruthenium rhodium palladium silver cadmium indium tin antimony tellurium iodine "
    "xenon cesium barium lanthanum cerium praseodymium neodymium promethium samarium europium gadolinium terbium "
    "dysprosium holmium erbium thulium ytterbium lutetium hafnium tantalum tungsten rhenium osmium iridium platinum "
    "gold mercury thallium lead bismuth polonium astatine radon francium radium actinium thorium protactinium "
    "uranium neptunium plutonium americium curium berkelium californium einsteinium fermium mendelevium nobelium "
    "lawrencium rutherfordium dubnium seaborgium bohrium hassium meitnerium darmstadtium roentgenium copernicium "
    "nihonium flerovium moscovium livermorium tennessine oganesson"
)
_CHINESE = (
    "氢氦锂铍硼碳氮氧氟氖钠镁铝硅磷硫氯氩钾钙钪钛钒铬锰铁钴镍铜锌镓锗砷硒溴氪铷锶钇锆铌钼锝钌铑钯银镉铟锡锑碲碘氙铯钡镧铈镨钕钷钐铕钆铽镝钬铒"
    "铥镱镥铪钽钨铼锇铱铂金汞铊铅铋钋砹氡钫镭锕钍镤铀镎钚镅锔锫锎锿镄钔锘铹"
)
_DIATOMIC = {"H": "氢气", "N": "氮气", "O": "氧气", "F": "氟气", "Cl": "氯气", "Br": "溴", "I": "碘"}

# formula(e): names, separated by semicolons; "~" marks one of several substances of that formula
_TABLE = """
H2O: water; 水
Hg: quicksilver; 水银
H2O2: hydrogen peroxide; 过氧化氢; 双氧水
D2O: heavy water; 重水
O3: ozone; 臭氧
~C: graphite; 石墨
~C: diamond; 金刚石
CO: carbon monoxide; 一氧化碳
CO2: carbon dioxide; dry ice; 二氧化碳; 干冰
SO2: sulfur dioxide; 二氧化硫
SO3: sulfur trioxide; 三氧化硫
NO: nitric oxide; nitrogen monoxide; 一氧化氮
NO2: nitrogen dioxide; 二氧化氮
N2O: nitrous oxide; dinitrogen monoxide; laughing gas; 一氧化二氮; 笑气
N2O4: dinitrogen tetroxide; 四氧化二氮
N2O5: dinitrogen pentoxide; 五氧化二氮
P2O5: diphosphorus pentoxide; phosphorus pentoxide; 五氧化二磷
P4O10: tetraphosphorus decoxide; phosphorus pentoxide
SiO2: silicon dioxide; silica; quartz; 二氧化硅; 石英
MnO2: manganese dioxide; 二氧化锰
TiO2: titanium dioxide; 二氧化钛
Fe3O4: magnetite; iron(ii,iii) oxide; 四氧化三铁; 磁铁矿
Fe2O3: hematite; rust; 铁锈; 三氧化二铁; 赤铁矿; 铁红
Al2O3: alumina; 三氧化二铝
Na2O2: sodium peroxide; 过氧化钠
SF6: sulfur hexafluoride; 六氟化硫
PCl3: phosphorus trichloride; 三氯化磷
PCl5: phosphorus pentachloride; 五氯化磷
CCl4: carbon tetrachloride; 四氯化碳
CS2: carbon disulfide; 二硫化碳
SiC: silicon carbide; carborundum; 碳化硅; 金刚砂
CaC2: calcium carbide; 碳化钙; 电石
NH3: ammonia; 氨; 氨气
N2H4: hydrazine; 肼
PH3: phosphine; 磷化氢
H2S: hydrogen sulfide; 硫化氢
HF: hydrogen fluoride; hydrofluoric acid; 氟化氢; 氢氟酸
HCl: hydrogen chloride; hydrochloric acid; muriatic acid; 氯化氢; 盐酸; 氢氯酸
HBr: hydrogen bromide; hydrobromic acid; 溴化氢; 氢溴酸
HI: hydrogen iodide; hydroiodic acid; 碘化氢; 氢碘酸
HCN: hydrogen cyanide; hydrocyanic acid; 氰化氢; 氢氰酸
H2SO4: sulfuric acid; oil of vitriol; 硫酸
H2SO3: sulfurous acid; 亚硫酸
HNO3: nitric acid; 硝酸
HNO2: nitrous acid; 亚硝酸
H3PO4: phosphoric acid; 磷酸
H2CO3: carbonic acid; 碳酸
HClO4: perchloric acid; 高氯酸
HClO3: chloric acid; 氯酸
HClO, HOCl: hypochlorous acid; 次氯酸
H3BO3: boric acid; 硼酸
H2SiO3: silicic acid; 硅酸
CaO: quicklime; burnt lime; 生石灰
Ca(OH)2: slaked lime; hydrated lime; lime water; limewater; 熟石灰; 消石灰; 石灰水
CaCO3: limestone; marble; chalk; calcite; 石灰石; 大理石; 方解石
NaCl: table salt; common salt; rock salt; 食盐; 岩盐
NaHCO3: baking soda; sodium bicarbonate; sodium hydrogencarbonate; 小苏打
Na2CO3: soda ash; washing soda; 纯碱; 苏打
NaOH: caustic soda; lye; 烧碱; 火碱; 苛性钠
KOH: caustic potash; 苛性钾
NH3·H2O: 一水合氨
NH3·H2O, NH4OH: ammonia water; 氨水
CuSO4·5H2O: blue vitriol; copper(ii) sulfate pentahydrate; 胆矾; 蓝矾; 五水合硫酸铜; 五水硫酸铜
FeSO4·7H2O: green vitriol; iron(ii) sulfate heptahydrate; 绿矾
CaSO4·2H2O: gypsum; calcium sulfate dihydrate; 生石膏; 石膏
2CaSO4·H2O: plaster of paris; 熟石膏
Na2SO4·10H2O: glauber's salt; 芒硝
Na2CO3·10H2O: sodium carbonate decahydrate; 十水合碳酸钠
MgSO4·7H2O: epsom salt; magnesium sulfate heptahydrate; 泻盐
KAl(SO4)2·12H2O: alum; 明矾
Cu2(OH)2CO3: malachite; basic copper carbonate; 碱式碳酸铜; 铜绿; 孔雀石
Na2S2O3: sodium thiosulfate; 硫代硫酸钠; 大苏打
Na2SiO3: water glass; 水玻璃
K2Cr2O7: potassium dichromate; 重铬酸钾
KMnO4: potassium permanganate; 高锰酸钾
FeS2: pyrite; fool's gold; 黄铁矿
ZnS: sphalerite; 闪锌矿
PbS: galena; 方铅矿
CH4: methane; marsh gas; 甲烷; 沼气
C2H6, CH3CH3: ethane; 乙烷
C3H8, CH3CH2CH3: propane; 丙烷
CH3CH2CH2CH3: butane; n-butane; 正丁烷
C2H4, CH2=CH2, H2C=CH2: ethylene; ethene; 乙烯
C3H6, CH3CH=CH2: propylene; propene; 丙烯
C2H2, CH≡CH, HC≡CH: acetylene; ethyne; 乙炔; 电石气
C6H6: benzene; 苯
C6H5CH3, C7H8: toluene; methylbenzene; 甲苯
C6H5OH: phenol; 苯酚; 石炭酸
C6H5NH2: aniline; 苯胺
C6H5COOH: benzoic acid; 苯甲酸
CH3OH: methanol; methyl alcohol; 甲醇
C2H5OH, CH3CH2OH, HOCH2CH3: ethanol; ethyl alcohol; 乙醇; 酒精
CH3OCH3: dimethyl ether; 二甲醚; 甲醚
C2H5OC2H5: diethyl ether; 乙醚
HCHO, CH2O, H2CO: formaldehyde; methanal; 甲醛
CH3CHO: acetaldehyde; ethanal; 乙醛
CH3COCH3, (CH3)2CO: acetone; propanone; 丙酮
HCOOH: formic acid; methanoic acid; 甲酸; 蚁酸
CH3COOH, HC2H3O2: acetic acid; ethanoic acid; 乙酸; 醋酸
CH3COOC2H5: ethyl acetate; ethyl ethanoate; 乙酸乙酯
CH3COONa, NaCH3COO, NaC2H3O2: sodium acetate; sodium ethanoate; 乙酸钠; 醋酸钠
H2C2O4, HOOCCOOH: oxalic acid; 草酸; 乙二酸
CO(NH2)2, (NH2)2CO: urea; 尿素
CHCl3: chloroform; trichloromethane; 氯仿; 三氯甲烷
CH3Cl: chloromethane; methyl chloride; 一氯甲烷; 氯甲烷
~C6H12O6: glucose; 葡萄糖
~C6H12O6: fructose; 果糖
~C12H22O11: sucrose; 蔗糖
~C12H22O11: maltose; 麦芽糖
HOCH2CH2OH, (CH2OH)2: ethylene glycol; 乙二醇
"""
# formula, charge, English names, Chinese name
_CATIONS = """
Li 1 lithium 锂
Na 1 sodium 钠
K 1 potassium 钾
Ag 1 silver 银
NH4 1 ammonium 铵
Mg 2 magnesium 镁
Ca 2 calcium 钙
Ba 2 barium 钡
Zn 2 zinc 锌
Al 3 aluminum 铝
Fe 2 iron(ii);ferrous 亚铁
Fe 3 iron(iii);ferric 铁
Cu 1 copper(i);cuprous 亚铜
Cu 2 copper(ii);cupric;copper 铜
Pb 2 lead(ii);lead 铅
Hg 2 mercury(ii);mercuric 汞
Mn 2 manganese(ii) 锰
"""
_ANIONS = """
F 1 fluoride 氟化
Cl 1 chloride 氯化
Br 1 bromide 溴化
I 1 iodide 碘化
O 2 oxide 氧化
S 2 sulfide 硫化
N 3 nitride 氮化
OH 1 hydroxide 氢氧化
NO3 1 nitrate 硝酸
NO2 1 nitrite 亚硝酸
SO4 2 sulfate 硫酸
SO3 2 sulfite 亚硫酸
HSO4 1 hydrogen_sulfate;bisulfate 硫酸氢
CO3 2 carbonate 碳酸
HCO3 1 hydrogen_carbonate;bicarbonate 碳酸氢
PO4 3 phosphate 磷酸
ClO3 1 chlorate 氯酸
ClO4 1 perchlorate 高氯酸
ClO 1 hypochlorite 次氯酸
MnO4 1 permanganate 高锰酸
CrO4 2 chromate 铬酸
SiO3 2 silicate 硅酸
"""


def _ions(table: str) -> list[tuple[str, int, list[str], str]]:
    rows = [line.split() for line in table.strip().splitlines()]
    return [(ion, int(charge), names.replace("_", " ").split(";"), chinese) for ion, charge, names, chinese in rows]


def _times(ion: str, count: int) -> str:
    if count == 1:
        return ion
    simple = ion in ATOMIC_NUMBER
    return f"{ion}{count}" if simple else f"({ion}){count}"


@dataclass(frozen=True, slots=True)
class Name:
    """What a name stands for: formulae, and identities that its synonyms share."""

    formulae: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()


UNKNOWN = Name()


@functools.cache
def _by_name() -> dict[str, Name]:
    found: dict[str, Name] = {}

    def add(name: str, *formulae: str, identity: str | None = None) -> None:
        known, key = found.get(name_key(name), UNKNOWN), name_key(name)
        identities = frozenset(formulae if identity is None else (identity,))
        found[key] = Name(known.formulae | frozenset(formulae), known.identities | identities)

    for line in _TABLE.strip().splitlines():
        formulae, _, synonyms = line.partition(": ")
        for name in synonyms.split("; "):
            add(name, *formulae.lstrip("~").split(", "), identity=synonyms if line[0] == "~" else None)
    for symbol, english in zip(SYMBOLS, _ENGLISH.split(), strict=True):
        diatomic = [f"{symbol}2"] if symbol in _DIATOMIC else []
        add(english, symbol, *diatomic)
        if diatomic:
            add(f"{english} gas", *diatomic)
            add(f"{english} molecule", *diatomic)
            add(_DIATOMIC[symbol], *diatomic)
    for symbol, chinese in zip(SYMBOLS, _CHINESE, strict=False):
        add(chinese, symbol)
        add(f"{chinese}元素", symbol)
    for cation, plus, names, chinese in _ions(_CATIONS):
        for anion, minus, endings, hanzi in _ions(_ANIONS):
            share = math.gcd(plus, minus)
            formula = _times(cation, minus // share) + _times(anion, plus // share)
            add(hanzi + chinese, formula)
            for name in names:
                for ending in endings:
                    add(f"{name} {ending}", formula)
    return found


@functools.cache
def writings() -> dict[str, frozenset[str]]:
    """For each formula of the table that is written in several ways, all of them."""
    groups = [line.partition(": ")[0].split(", ") for line in _TABLE.strip().splitlines()]
    return {formula: frozenset(group) for group in groups if len(group) > 1 for formula in group}


_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")  # before a word it is a minus


def name_key(name: str) -> str:
    """The form names are compared in: folded, American spelling, hyphens between words as spaces."""
    key = _HYPHEN.sub(" ", fold(name)).replace(" (", "(")
    for british, american in (
        ("sulph", "sulf"),
        ("aluminium", "aluminum"),
        ("caesium", "cesium"),
        ("hydrogencarb", "hydrogen carb"),
    ):
        key = key.replace(british, american)
    return " ".join(key.split())


def named(text: str) -> Name:
    """The substance or element called `text`; without formulae when the name is not known."""
    return _by_name().get(name_key(text[:200]), UNKNOWN)
