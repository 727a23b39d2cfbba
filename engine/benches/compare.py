"""Agreement of the same ratings by the engine and by Python packages; `scripts/compare-agreement` runs it.

    compare.py PROGRAM [ITEMS [ANNOTATORS]]
"""

import itertools
import json
import subprocess
import sys
import time

import krippendorff
import numpy
from sklearn.metrics import cohen_kappa_score

CATEGORIES = 5
MISSING = 0.1
RUNS = 3
TOLERANCE = 1e-9


def ratings(items, annotators):
    """Three labels out of four are right, a tenth is missing. Rows are annotators; NaN where there is no label."""
    random = numpy.random.default_rng(7)
    truth = random.integers(0, CATEGORIES, items)
    said = numpy.where(
        random.random((annotators, items)) < 0.75, truth, random.integers(0, CATEGORIES, (annotators, items))
    ).astype(float)
    said[random.random((annotators, items)) < MISSING] = numpy.nan
    return said


def mean_kappa(said, weights):
    """Cohen's kappa, mean over all pairs of annotators, each over the items that both labelled."""
    kappas = []
    for a, b in itertools.combinations(said, 2):
        both = ~(numpy.isnan(a) | numpy.isnan(b))
        labels = range(CATEGORIES)
        kappas.append(cohen_kappa_score(a[both].astype(int), b[both].astype(int), weights=weights, labels=labels))
    return float(numpy.mean(kappas))


def timed(compute):
    fastest = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        value = compute()
        fastest = min(fastest, time.perf_counter() - started)
    return float(value), fastest


def main():
    program = sys.argv[1]
    items = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    annotators = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    said = ratings(items, annotators)

    rows = [[None if numpy.isnan(value) else int(value) for value in row] for row in said]
    answer = subprocess.run([program], input=json.dumps(rows), capture_output=True, text=True, check=True)
    engine = json.loads(answer.stdout)

    def alpha(level):
        return lambda: krippendorff.alpha(reliability_data=said, level_of_measurement=level)

    python = {f"alpha {level}": alpha(level) for level in ("nominal", "ordinal", "interval", "ratio")}
    python["kappa, mean of pairs"] = lambda: mean_kappa(said, None)
    python["kappa linear, mean of pairs"] = lambda: mean_kappa(said, "linear")
    python["kappa quadratic, mean of pairs"] = lambda: mean_kappa(said, "quadratic")

    print(f"{items} items x {annotators} annotators, {CATEGORIES} categories, {MISSING:.0%} missing; fastest run each")
    print(f"{'measure':32} {'engine':>14} {'ms':>9} {'python':>14} {'ms':>9} {'times':>7}")
    differing = []
    for name, compute in python.items():
        theirs, their_seconds = timed(compute)
        ours, our_seconds = engine[name]
        print(
            f"{name:32} {ours:14.10f} {our_seconds * 1e3:9.3f} {theirs:14.10f} {their_seconds * 1e3:9.3f}"
            f" {their_seconds / our_seconds:7.1f}"
        )
        if abs(ours - theirs) > TOLERANCE:
            differing.append(name)
    if differing:
        print(f"values differ: {', '.join(differing)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
