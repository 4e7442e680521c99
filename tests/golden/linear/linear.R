# Fits the cases of a request and stops where standard errors differ from it: lm, sandwich, estimatr.
suppressPackageStartupMessages({
  library(sandwich)
  library(estimatr)
  library(jsonlite)
})

# Levels in the order of bytes.
invisible(Sys.setlocale("LC_COLLATE", "C"))
cases <- fromJSON(commandArgs(TRUE)[1], simplifyVector = FALSE)
agree <- function(what, ours, theirs, tolerance = 1e-8) {
  off <- max(abs(unlist(ours) / theirs - 1))
  if (!is.finite(off) || off > tolerance) stop(sprintf("%s: %g off", what, off))
}
robust <- 0
for (case in cases) {
  data <- read.csv(case$table, stringsAsFactors = TRUE, na.strings = "")
  data$w <- if (case$weighted) data$weight else rep(1, nrow(data))
  formula <- as.formula(case$formula)
  # The tolerance of R's QR would leave out columns that are far from 0.
  model <- lm(formula, data, weights = w, tol = 1e-12)
  ways <- unlist(case$clusters)
  kind <- case$kind
  small <- kind == "CR1"
  v <- if (kind == "classical") {
    vcov(model)
  } else if (substr(kind, 1, 2) == "HC") {
    vcovHC(model, type = kind)
  } else {
    vcovCL(model, cluster = data[ways], type = if (small) "HC1" else "HC0", cadjust = small)
  }
  what <- paste(case$formula, kind, paste(ways, collapse = "+"))
  agree(what, case$estimates, coef(model))
  agree(paste("R²", what), case$r_squared, unlist(summary(model)[c("r.squared", "adj.r.squared", "sigma")]))
  agree(what, case$std_errors, sqrt(diag(v)))
  if (length(ways) < 2 && !case$weighted) {
    types <- c(classical = "classical", HC0 = "HC0", HC1 = "HC1", HC2 = "HC2", HC3 = "HC3", CR0 = "CR0", CR1 = "stata")
    if (length(ways) == 1 && kind != "classical") {
      data$group <- data[[ways]]
      other <- lm_robust(formula, data, clusters = group, se_type = types[[kind]])
    } else {
      other <- lm_robust(formula, data, se_type = types[[kind]])
    }
    agree(paste("estimatr", what), case$std_errors, other$std.error, 1e-6)
    robust <- robust + 1
  }
}
cat(sprintf(
  "R %s: %d cases agree with sandwich %s, %d with estimatr %s\n", getRversion(), length(cases),
  packageVersion("sandwich"), robust, packageVersion("estimatr")
))
