//! Rows of users and titles: an effect in the population of both, which titles alone make uncertain.

use gosset_stats::compare::{Interval, bootstrap_replicates};
use gosset_stats::summary::{Law, Replicates, ReplicatesTable, Resampling, Table};
use gosset_stats::{Effect, Inference, units};

use super::units::{Drawn, outcomes, unit};
use super::{BOOTSTRAP, each, head, print};
use crate::simulate::{Random, experiments_of, simulate};

const INTERVALS: [Interval; 3] = [Interval::Percentile, Interval::Normal, Interval::Basic];
const WAYS: usize = (1 + Law::ALL.len()) * INTERVALS.len();
/// Users of each arm, and the titles that both see.
const SIZES: [(usize, usize); 6] =
    [(100, 20), (1000, 20), (1000, 100), (10_000, 500), (100_000, 2000), (1_000_000, 5000)];

/// By users, and by both factors with each of the laws.
fn summaries(
    random: &mut Random,
    (users, titles): (usize, usize),
    treated: bool,
    seed: u64,
    common: &[f64],
) -> [Replicates; 1 + Law::ALL.len()] {
    let table = |law, crossed| {
        let resampling = Resampling { law, crossed, seed, ..BOOTSTRAP };
        ReplicatesTable::new(outcomes(["y"], 1), resampling).expect("valid")
    };
    let mut by_user = table(Law::Poisson, false);
    let mut by_both = Law::ALL.map(|law| table(law, true));
    let of_title: Vec<f64> = common.iter().map(|b| b + 0.5 * random.normal()).collect();
    let (mut of_users, mut of_pairs) = (Drawn::of(1), Drawn::of(1));
    for i in 0..users {
        let (level, user) = (random.normal(), unit(treated, i));
        for _ in 0..1 + (20.0 * random.uniform()) as usize {
            let title = (titles as f64 * random.uniform()) as usize;
            let y = level + of_title[title] + random.normal();
            of_users.push(user, &[y]);
            of_pairs.push(units::pair(user, units::integer(title as i128)), &[y]);
        }
        let last = i + 1 == users;
        of_users.hand_on(last, &mut |rows| rows.fill(&mut by_user));
        of_pairs.hand_on(last, &mut |rows| by_both.iter_mut().for_each(|table| rows.fill(table)));
    }
    let [poisson, double_or_nothing, bayesian] = by_both.map(|table| table.get(0));
    [by_user.get(0), poisson, double_or_nothing, bayesian]
}

pub(super) fn table(experiments: usize, largest: usize) {
    println!(
        "\nTwo crossed factors: the mean of rows of users in one of two arms with titles that both arms see, and whose effect differs by arm, none on average over titles. Resampled by user, and by user and title.\n"
    );
    let ways = ["by user", "poisson", "double_or_nothing", "bayesian"];
    let names = each(&ways, &INTERVALS.map(Interval::name));
    head(&[&["users", "titles"].map(String::from)[..], &names].concat());
    for (users, titles) in SIZES.into_iter().filter(|(users, _)| *users <= largest) {
        let experiments = experiments_of(experiments, 20 * users);
        let coverage = simulate(experiments, |experiment| {
            let seed = 1 + experiment as u64;
            let mut random = Random(seed << 20 | users as u64);
            let common: Vec<f64> = (0..titles).map(|_| random.normal()).collect();
            let [t, c] = [true, false]
                .map(|arm| summaries(&mut random, (users, titles), arm, seed, &common));
            let all = t.iter().zip(&c).flat_map(|(t, c)| {
                INTERVALS.map(|interval| {
                    bootstrap_replicates(t, c, &Inference::default(), interval).ok()
                })
            });
            let all: [Option<Effect>; WAYS] =
                all.collect::<Vec<_>>().try_into().expect("as many effects as ways");
            all
        });
        print(&format!("{users} / {users} | {titles}"), &coverage, experiments);
    }
}
