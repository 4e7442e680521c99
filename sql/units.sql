-- Rows to units: the unit of randomisation is the unit of inference.
-- Run from the root of the repository: cargo run -- sql -f sql/units.sql

CREATE VIEW views AS
SELECT (i * 7919) % 3000 AS account, (i * 7919) % 2 = 0 AS treated, ((i * 31) % 97) / 10.0 AS minutes
FROM generate_series(1, 30000) AS t (i);

-- Minutes per account: sum by account first, exactly, so that the result does not depend on the order of the rows.
SELECT e['estimate'] AS minutes_per_account, e['std_error'] AS std_error
FROM (
  SELECT ttest(minutes, treated) AS e
  FROM (SELECT account, treated, exact_sum(minutes) AS minutes FROM views GROUP BY account, treated)
);

-- Minutes per view: a ratio of two sums by account.
SELECT e['estimate'] AS minutes_per_view, e['std_error'] AS std_error
FROM (
  SELECT ratio_test(minutes, views, treated) AS e
  FROM (SELECT account, treated, exact_sum(minutes) AS minutes, count(*) AS views FROM views GROUP BY account, treated)
);

-- The same without aggregating by account: buckets of accounts as clusters.
SELECT e['estimate'] AS minutes_per_view, e['std_error'] AS std_error
FROM (SELECT clustered_ttest(minutes, treated, account) AS e FROM views);
