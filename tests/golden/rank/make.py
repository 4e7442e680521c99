"""Rank and distribution tests and quantiles by R, on the National Supported Work experiment (many zeros: ties)."""

import math
import subprocess
import sys
from pathlib import Path

from scipy import stats

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from reference import write_json, write_metadata  # noqa: E402

SCRIPT = """
d <- read.csv("tests/golden/lalonde/lalonde.csv")
show <- function(...) cat(..., "\\n")
n <- function(x) sprintf("%.17g", x)
for (column in c("re78", "educ", "age")) {
  t <- d[[column]][d$treat == 1]; c <- d[[column]][d$treat == 0]
  for (alternative in c("two.sided", "greater", "less")) {
    w <- suppressWarnings(wilcox.test(t, c, alternative = alternative, exact = FALSE, correct = TRUE))
    # W is U of treatment.
    show("mann_whitney", column, alternative, n(2 * w$statistic / (length(t) * length(c)) - 1), n(w$p.value))
    # R's "greater" is a distribution function that lies above: smaller values.
    mirrored <- c(two.sided = "two.sided", greater = "less", less = "greater")[[alternative]]
    k <- suppressWarnings(ks.test(t, c, alternative = mirrored, exact = FALSE))
    show("ks_test", column, alternative, n(k$statistic), n(k$p.value))
  }
  for (q in c(0.1, 0.25, 0.5, 0.6, 0.9, 0.99)) {
    show("quantile", column, q, n(quantile(t, q, type = 2)), n(quantile(c, q, type = 2)))
  }
  # Woodruff's standard error of a quantile, from the interval of the share below it.
  for (q in c(0.25, 0.5, 0.6, 0.9)) {
    woodruff <- function(y) {
      reach <- qnorm(0.975) * sqrt(q * (1 - q) / length(y))
      diff(quantile(y, q + c(-1, 1) * reach, type = 2)) / (2 * qnorm(0.975))
    }
    se <- sqrt(woodruff(t)^2 + woodruff(c)^2)
    z <- (quantile(t, q, type = 2) - quantile(c, q, type = 2)) / se
    if (se > 0) show("quantile_delta", column, q, n(se), n(2 * pnorm(-abs(z))))
  }
}
"""

out = subprocess.run(["Rscript", "-e", SCRIPT], check=True, capture_output=True, text=True, cwd=FOLDER.parents[2]).stdout
cases = []
for line in out.strip().split("\n"):
    what, column, which, first, second = line.split()
    if what == "ks_test" and which == "two.sided":
        # R stops its series at 1e-8.
        p = stats.kstwobign.sf(float(first) * math.sqrt(185 * 260 / (185 + 260)))
        assert math.isclose(p, float(second), rel_tol=1e-7)
        second = p
    cases.append({"what": what, "column": column, "which": which if what.startswith("quantile") else which.replace(".", "-"),
                  "values": [float(first), float(second)]})
write_json(FOLDER / "expected.json", cases)
version = subprocess.run(["Rscript", "-e", "cat(R.version.string)"], check=True, capture_output=True, text=True).stdout
write_metadata(FOLDER, ["scipy"], 1e-10, f"wilcox.test, ks.test, quantile and qnorm of {version}")
