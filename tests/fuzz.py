"""Many random cases against GDAL: python tests/fuzz.py [N=5000] [SEED=0]; prints each that differs, and a summary."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from cases import cases, ccog_file, difference, gdal_file

Tally = Counter[str]


def verdict(case: dict[str, Any]) -> tuple[str, str]:
    """identical, differs, refused by GDAL, or our error; and what is to be said of it."""
    try:
        expected = gdal_file(case)
    except Exception as error:
        return "refused by GDAL", f"{type(error).__name__}: {error}"
    try:
        found = ccog_file(case, scheduler="synchronous")
    except Exception as error:
        return "our errors", f"{type(error).__name__}: {error}"
    return ("identical", "") if found == expected else ("different", difference(found, expected))


def run(count: int, start: int) -> Tally:
    """Judge ``count`` random cases."""
    tally: Tally = Counter()

    @seed(start)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(cases())
    def judge(case: dict[str, Any]) -> None:
        kind, says = verdict(case)
        tally[kind] += 1
        if kind in ("different", "our errors"):
            short = {k: v for k, v in case.items() if k != "described"}
            described = {k: v for k, v in case["described"].items() if k != "rpcs"}
            print(f"{kind}: {says[:3000]}\n   {short}\n   {str(described)[:300]}", flush=True)

    judge()
    return tally


def main() -> None:
    given_or_default = [*sys.argv[1:], *("5000", "0")[len(sys.argv) - 1 :]]
    count, start = map(int, given_or_default)
    warnings.simplefilter("ignore")
    tally = run(count, start)
    print(
        f"seed {start}: {sum(tally.values())} cases, "
        + ", ".join(f"{n} {kind}" for kind, n in sorted(tally.items()))
    )
    sys.exit(bool(tally["different"] or tally["our errors"]))


if __name__ == "__main__":
    main()
