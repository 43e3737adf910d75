"""Other spellings of a canonical document, each of which a forgiving reader would take."""

from __future__ import annotations

import re
from collections.abc import Callable

Spell = Callable[[bytes], bytes]


def _once(pattern: bytes, by: bytes) -> Spell:
    """Replaces the first match, of which there must be one."""

    def spell(data: bytes) -> bytes:
        changed, count = re.subn(pattern, by, data, count=1)
        if not count:
            raise AssertionError(f"nothing matches {pattern!r}")
        return changed

    return spell


SPELLINGS: dict[str, Spell] = {
    "final newline": lambda data: data + b"\n",
    "two final newlines": lambda data: data + b"\n\n",
    "carriage return": lambda data: data + b"\r\n",
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "leading blank": lambda data: b" " + data,
    "trailing blank": lambda data: data + b" ",
    "trailing bytes": lambda data: data + b"{}",
    "cut": lambda data: data[:-1],
    "empty": lambda data: b"",
    "blank after a colon": _once(rb'":', b'": '),
    "blank after a comma": _once(rb',"', b', "'),
    "duplicate key": lambda data: data[:-1] + b',"type":"quotary/settlement/v1"}',
    "duplicate key first": _once(rb"\{", b'{"batch":1,'),
    "float": _once(rb'"index":([0-9]+)', rb'"index":\1.0'),
    "exponent": _once(rb'"index":([0-9]+)', rb'"index":\1e0'),
    "minus zero": _once(rb'"index":[0-9]+', b'"index":-0'),
    "leading zero": _once(rb'"index":([0-9]+)', rb'"index":0\1'),
    "plus": _once(rb'"index":([0-9]+)', rb'"index":+\1'),
    "2^53": _once(rb'"index":[0-9]+', b'"index":9007199254740992'),
    "2^53-1": _once(rb'"index":[0-9]+', b'"index":9007199254740991'),
    "2^53+1": _once(rb'"index":[0-9]+', b'"index":9007199254740993'),
    "2^64": _once(rb'"index":[0-9]+', b'"index":18446744073709551616'),
    "400 digits": _once(rb'"index":[0-9]+', b'"index":' + b"9" * 400),
    "negative": _once(rb'"index":[0-9]+', b'"index":-1'),
    "null": _once(rb'"index":[0-9]+', b'"index":null'),
    "true": _once(rb'"index":[0-9]+', b'"index":true'),
    "NaN": _once(rb'"index":[0-9]+', b'"index":NaN'),
    "digits in a string": _once(rb'"index":([0-9]+)', rb'"index":"\1"'),
    "escaped letter": _once(rb'"name":"', rb'"name":"\\u0061'),
    "escaped slash": _once(rb"quotary/", rb"quotary\\/"),
    "lone surrogate": _once(rb'"name":"', rb'"name":"\\ud800'),
    "lone low surrogate": _once(rb'"name":"', rb'"name":"\\udc00'),
    "escaped pair": _once(rb'"name":"', rb'"name":"\\ud83d\\ude00'),
    "surrogate in UTF-8": _once(rb'"name":"', b'"name":"\xed\xa0\x80'),
    "not UTF-8": _once(rb'"name":"', b'"name":"\xff'),
    "overlong": _once(rb'"name":"', b'"name":"\xc0\xaf'),
    "raw control character": _once(rb'"name":"', b'"name":"\x01'),
    "escaped control character": _once(rb'"name":"', rb'"name":"\\u0001'),
    "escaped control in capitals": _once(rb'"name":"', rb'"name":"\\u001F'),
    "escaped newline as u000a": _once(rb'"name":"', rb'"name":"\\u000a'),
    "delete": _once(rb'"name":"', b'"name":"\x7f'),
    "U+2028": _once(rb'"name":"', '"name":"\u2028'.encode()),
    "key in capitals": _once(rb'"batch"', b'"Batch"'),
    "key with a dash": _once(rb'"batch"', b'"ba-tch"'),
    "proto": _once(rb'"batch"', b'"__proto__"'),
    "constructor": _once(rb"\{", b'{"abc":{"constructor":1},'),
    "unknown member": _once(rb"\{", b'{"abc":1,'),
    "keys out of order": _once(rb'\{"batch":([0-9]+),(.*)\}$', rb'{\2,"batch":\1}'),
    "base64 with stray bits": _once(rb'"messages":\["([A-Za-z0-9_-]*)"', rb'"messages":["\1","QR"'),
    "base64 with padding": _once(rb'"messages":\["', rb'"messages":["QQ==","'),
    "base64 of the other alphabet": _once(rb'"messages":\["', rb'"messages":["+/+/","'),
    "base64 with a blank": _once(rb'"messages":\["', rb'"messages":["QU FB","'),
    "base64 of five": _once(rb'"messages":\["', rb'"messages":["QUFBQ","'),
    "hex in capitals": _once(rb'"salt":"[0-9a-f]{2}', rb'"salt":"AB'),
    "hex too short": _once(rb'"salt":"[0-9a-f]{2}', rb'"salt":"'),
    "sixteen deep": _once(rb"\{", b'{"abc":' + b"[" * 15 + b"]" * 15 + b","),
    "seventeen deep": _once(rb"\{", b'{"abc":' + b"[" * 16 + b"]" * 16 + b","),
    "very deep": _once(rb"\{", b'{"abc":' + b"[" * 200_000 + b"]" * 200_000 + b","),
}
