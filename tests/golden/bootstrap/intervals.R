# Intervals of R's boot package from replicates that are given: replicates.csv has t (the statistic) and v (its variance),
# influence.csv has L. Arguments: folder, estimate, variance of the estimate.
suppressPackageStartupMessages(library(boot))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[1]
t0 <- as.numeric(arguments[2])
v0 <- as.numeric(arguments[3])
replicates <- read.csv(file.path(folder, "replicates.csv"))
influence <- read.csv(file.path(folder, "influence.csv"))$L
n <- length(influence)
out <- structure(
  list(
    t0 = t0, t = matrix(replicates$t), R = nrow(replicates), data = seq_len(n), seed = 1L,
    statistic = function(d, i) NULL, sim = "ordinary", call = quote(boot(data = d, statistic = s, R = R)),
    stype = "i", strata = rep(1, n), weights = rep(1 / n, n)
  ),
  class = "boot"
)
for (conf in c(0.95, 0.9)) {
  ci <- boot.ci(
    out, conf = conf, type = c("basic", "stud", "perc", "bca"),
    index = 1:2, var.t0 = v0, var.t = replicates$v, t0 = t0, t = replicates$t, L = influence
  )
  for (type in c("basic", "student", "percent", "bca")) {
    cat(conf, type, sprintf("%.17g", tail(ci[[type]][1, ], 2)), "\n")
  }
}
cat("se", 0, sprintf("%.17g", sd(replicates$t)), 0, "\n")
