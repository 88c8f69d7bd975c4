"""Budgets as short as a command line wants them: `500kB`, `latency_ms<=1.05x`, `accuracy>=0.9`."""

import re

from edgepress.errors import UserError
from edgepress.gate.budget import Budget, parse_budgets

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_AMOUNT = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>[A-Za-z]*)")
_LIMIT = re.compile(r"(?P<metric>[A-Za-z_]\w*)(?:@(?P<target>[\w.:-]+))?\s*(?P<sign><=|>=)\s*(?P<amount>.+)")
FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def parse_amount(text: str, flag: str) -> float:
    """`500kB` -> 500000, `1.5MiB` -> 1572864, `100k` -> 100000. A closing `B` may be left out.

    Raises:
        UserError: no such number or unit.
    """
    match = _AMOUNT.fullmatch(text.strip())
    factor = FACTORS.get(match["unit"].removesuffix("B")) if match else None
    if not match or factor is None:
        raise UserError(
            f"{flag}: no amount", found=text, expected="a number such as 500kB, 512KiB, 1.5MB, 100k or 73000"
        )
    return float(match["number"]) * factor


def parse_limit(text: str) -> Budget:
    """A budget from `METRIC<=VALUE` or `METRIC@TARGET>=VALUE`; a closing `x` makes it relative to the baseline.

    Raises:
        UserError: not of that form.
    """
    match = _LIMIT.fullmatch(text.strip())
    if not match:
        expected, fix = "METRIC<=VALUE, METRIC>=VALUE or METRIC<=1.05x", "quote it: --limit 'latency_ms<=5'"
        raise UserError("--limit: not a limit", found=text, expected=expected, fix=fix)
    kind = "max" if match["sign"] == "<=" else "min"
    amount = match["amount"].strip()
    relative = amount.endswith("x")
    value = parse_amount(amount.removesuffix("x"), "--limit")
    fields = {f"{kind}_ratio" if relative else kind: value}
    return parse_budgets([{"metric": match["metric"], "target": match["target"] or "", **fields}], "--limit")[0]
