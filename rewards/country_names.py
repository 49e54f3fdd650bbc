"""Names of countries, to tell a wrong country from an unknown town: ISO 3166 short names, common variants, Chinese names."""

from __future__ import annotations

from functools import lru_cache

from rewards.plain_text import label

_NAMES = """
afghanistan,阿富汗|albania,阿尔巴尼亚|algeria,阿尔及利亚|andorra,安道尔|angola,安哥拉|antigua and barbuda
argentina,阿根廷|armenia,亚美尼亚|australia,澳大利亚,澳洲|austria,奥地利|azerbaijan,阿塞拜疆|bahamas,巴哈马
bahrain,巴林|bangladesh,孟加拉国,孟加拉|barbados,巴巴多斯|belarus,白俄罗斯|belgium,比利时|belize,伯利兹|benin,贝宁
bhutan,不丹|bolivia,玻利维亚|bosnia and herzegovina,bosnia,波黑|botswana,博茨瓦纳|brazil,brasil,巴西|brunei,文莱
bulgaria,保加利亚|burkina faso,布基纳法索|burundi,布隆迪|cambodia,柬埔寨|cameroon,喀麦隆|canada,加拿大
cape verde,cabo verde,佛得角|central african republic,中非|chad,乍得|chile,智利
china,people's republic of china,prc,p.r. china,中国,中华人民共和国|colombia,哥伦比亚|comoros,科摩罗
costa rica,哥斯达黎加|croatia,克罗地亚|cuba,古巴|cyprus,塞浦路斯|czech republic,czechia,捷克,捷克共和国
democratic republic of the congo,dr congo,drc,刚果民主共和国|republic of the congo,congo,刚果|denmark,丹麦
djibouti,吉布提|dominica,多米尼克|dominican republic,多米尼加|ecuador,厄瓜多尔|egypt,埃及|el salvador,萨尔瓦多
equatorial guinea,赤道几内亚|eritrea,厄立特里亚|estonia,爱沙尼亚|eswatini,swaziland,斯威士兰|ethiopia,埃塞俄比亚
fiji,斐济|finland,芬兰|france,french republic,法国|gabon,加蓬|gambia,冈比亚|georgia,格鲁吉亚|germany,deutschland,德国
ghana,加纳|greece,希腊|grenada,格林纳达|guatemala,危地马拉|guinea,几内亚|guinea bissau,几内亚比绍|guyana,圭亚那
haiti,海地|honduras,洪都拉斯|hungary,匈牙利|iceland,冰岛|india,印度|indonesia,印度尼西亚,印尼|iran,伊朗|iraq,伊拉克
ireland,爱尔兰|israel,以色列|italy,italia,意大利|ivory coast,cote d'ivoire,côte d'ivoire,科特迪瓦|jamaica,牙买加
japan,日本|jordan,约旦|kazakhstan,哈萨克斯坦|kenya,肯尼亚|kiribati,基里巴斯|kosovo,科索沃|kuwait,科威特
kyrgyzstan,吉尔吉斯斯坦|laos,老挝|latvia,拉脱维亚|lebanon,黎巴嫩|lesotho,莱索托|liberia,利比里亚|libya,利比亚
liechtenstein,列支敦士登|lithuania,立陶宛|luxembourg,卢森堡|madagascar,马达加斯加|malawi,马拉维|malaysia,马来西亚
maldives,马尔代夫|mali,马里|malta,马耳他|marshall islands,马绍尔群岛|mauritania,毛里塔尼亚|mauritius,毛里求斯
mexico,méxico,墨西哥|micronesia,密克罗尼西亚|moldova,摩尔多瓦|monaco,摩纳哥|mongolia,蒙古,蒙古国|montenegro,黑山
morocco,摩洛哥|mozambique,莫桑比克|myanmar,burma,缅甸|namibia,纳米比亚|nauru,瑙鲁|nepal,尼泊尔
netherlands,holland,荷兰|new zealand,新西兰|nicaragua,尼加拉瓜|niger,尼日尔|nigeria,尼日利亚|north korea,dprk,朝鲜
north macedonia,macedonia,北马其顿|norway,挪威|oman,阿曼|pakistan,巴基斯坦|palau,帕劳|palestine,巴勒斯坦|panama,巴拿马
papua new guinea,巴布亚新几内亚|paraguay,巴拉圭|peru,秘鲁|philippines,菲律宾|poland,波兰|portugal,葡萄牙|qatar,卡塔尔
romania,罗马尼亚|russia,russian federation,俄罗斯|rwanda,卢旺达|samoa,萨摩亚|san marino,圣马力诺
saudi arabia,沙特阿拉伯,沙特|senegal,塞内加尔|serbia,塞尔维亚|seychelles,塞舌尔|sierra leone,塞拉利昂|singapore,新加坡
slovakia,斯洛伐克|slovenia,斯洛文尼亚|solomon islands,所罗门群岛|somalia,索马里|south africa,南非
south korea,korea,republic of korea,韩国|south sudan,南苏丹|spain,españa,西班牙|sri lanka,斯里兰卡|sudan,苏丹
suriname,苏里南|sweden,瑞典|switzerland,瑞士|syria,叙利亚|tajikistan,塔吉克斯坦|tanzania,坦桑尼亚|thailand,泰国
timor leste,east timor,东帝汶|togo,多哥|tonga,汤加|trinidad and tobago|tunisia,突尼斯|turkey,türkiye,turkiye,土耳其
turkmenistan,土库曼斯坦|tuvalu,图瓦卢|uganda,乌干达|ukraine,乌克兰|united arab emirates,uae,u.a.e,阿联酋
united kingdom,uk,u.k,great britain,britain,英国|united states,united states of america,usa,us,u.s,u.s.a,america,美国
uruguay,乌拉圭|uzbekistan,乌兹别克斯坦|vanuatu,瓦努阿图|vatican city,vatican,梵蒂冈|venezuela,委内瑞拉
vietnam,viet nam,越南|yemen,也门|zambia,赞比亚|zimbabwe,津巴布韦
"""


@lru_cache(maxsize=1)
def countries() -> dict[str, frozenset[str]]:
    """Each known name of a country -> all names of that country, as labels."""
    table: dict[str, frozenset[str]] = {}
    for entry in _NAMES.replace("\n", "|").split("|"):
        names = frozenset(label(name) for name in entry.split(",") if name.strip())
        table.update(dict.fromkeys(names, names))
    return table
