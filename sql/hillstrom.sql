-- The e-mail experiment of jobs/hillstrom.toml by hand: three arms, one against one, by channel.
-- Run from the root of the repository: cargo run -- sql -f sql/hillstrom.sql

-- Are the arms of the sizes that the assignment should give?
SELECT s['p_value'] AS p_value, s['n'] AS customers
FROM (SELECT srm(segment) AS s FROM 'jobs/hillstrom.csv');

-- Spend, adjusted for the spend of the year before.
SELECT channel, e['estimate'] AS estimate, e['std_error'] AS std_error, e['ci_lower'] AS ci_lower, e['ci_upper'] AS ci_upper,
       e['variance_reduction'] AS variance_reduction
FROM (
  SELECT channel, cuped(spend, history, segment, {treatment: 'Mens E-Mail', control: 'No E-Mail'}) AS e
  FROM 'jobs/hillstrom.csv'
  GROUP BY channel
)
ORDER BY channel;

-- All fields of one effect.
SELECT unnest(e)
FROM (
  SELECT proportion_test(visit, segment, {treatment: 'Womens E-Mail', control: 'No E-Mail', method: 'newcombe'}) AS e
  FROM 'jobs/hillstrom.csv'
);
