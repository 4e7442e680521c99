-- Day summaries that add up to any window: what a nightly run stores, and what is asked of it later.
-- Units come back on many days; their rows meet in the same bucket, so the standard errors of a window are right.
-- Run from the root of the repository: cargo run -- sql -f sql/rollup.sql

CREATE VIEW sessions AS
SELECT i % 14 AS day, (i * 7919) % 2000 AS account, (i * 7919) % 2 = 0 AS treated, ((i * 31) % 97) / 10.0 AS minutes
FROM generate_series(1, 40000) AS t (i);

CREATE VIEW day_summaries AS
SELECT day, treated, buckets(account, minutes) AS summary
FROM sessions
GROUP BY day, treated;

-- One week, from the summaries of its days.
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['rows_control'] AS rows_control, e['rows_treatment'] AS rows_treatment
FROM (
  SELECT clustered_ttest_effect(t.summary, c.summary) AS e
  FROM (SELECT merge_summaries(summary) AS summary FROM day_summaries WHERE day < 7 AND treated) t
  CROSS JOIN (SELECT merge_summaries(summary) AS summary FROM day_summaries WHERE day < 7 AND NOT treated) c
);

-- The same week, from its rows: the same bits.
SELECT e['estimate'] AS estimate, e['std_error'] AS std_error, e['rows_control'] AS rows_control, e['rows_treatment'] AS rows_treatment
FROM (SELECT clustered_ttest(minutes, treated, account) AS e FROM sessions WHERE day < 7);
