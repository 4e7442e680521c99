//! Coverage of relative effects by Fieller's theorem, the logarithm and the delta method, and of differences of proportions.
#![expect(clippy::print_stdout, reason = "a tool for the command line")]

use gosset_stats::compare::{
    LinOptions, ProportionMethod, Variance, cuped, cuped_ratio, lin, proportion_test, ttest,
};
use gosset_stats::{Effect, Inference, Relative};

use crate::simulate::{Coverage, experiments_of, simulate};
use crate::table::{Found, about, head, relative_about};
use crate::world::{SIZES, Shape, Twist, World, grid, is_run};

const COLUMNS: [&str; 14] = [
    "ttest fieller",
    "ttest log",
    "ttest delta",
    "cuped fieller",
    "cuped log",
    "cuped delta",
    "lin superpopulation fieller",
    "cuped_ratio fieller",
    "cuped_ratio log",
    "cuped_ratio delta",
    "wald",
    "score",
    "agresti-caffo",
    "newcombe",
];
const TWISTS: [(Twist, &[f64]); 3] =
    [(Twist::None, &[0.0, 0.95]), (Twist::Larger, &[0.8]), (Twist::Outliers, &[0.8])];

pub(crate) fn table(experiments: usize, largest: usize) {
    println!(
        "\nRelative effects, likewise, by the interval of each estimator, and `proportion_test` by its methods, of the difference. The effect is 0, or a fifth of the mean. Where there is no interval (the mean of control is too weakly \
         determined, or is not positive) an experiment does not count; \"none\" is how many of 100 have none by `fieller`, by `log` and by `delta` of `ttest`. \"Bias\" is that of the relative effects of `ttest`, `cuped` and `cuped_ratio`.\n",
    );
    head(&COLUMNS, &["none", "bias"]);
    for (world, sizes) in grid(&TWISTS, &SIZES) {
        if is_run(world, sizes, largest, |world| world.twist == Twist::Larger) {
            let found = relative(experiments, world, sizes);
            let others =
                [found.of(&[0, 1, 2], Coverage::none), found.of(&[0, 3, 7], Coverage::bias)];
            found.print(world, sizes, &others);
        }
    }
}

fn relative(experiments: usize, world: World, sizes: (usize, usize)) -> Found<14> {
    let experiments = experiments_of(experiments, sizes.0 + sizes.1);
    let truth = if world.twist == Twist::Larger { 0.2 } else { 0.0 };
    let coverage = simulate(experiments, |experiment| {
        let [t, c] = world.arms(sizes, experiment, true);
        let (of_t, of_c) = (t.moments(&t.x), c.moments(&c.x));
        let (y_t, y_c) = (t.moments(&[]), c.moments(&[]));
        let (ratio_t, ratio_c) = (t.of_ratio(), c.of_ratio());
        let inference = |relative| Inference { relative, ..Inference::default() };
        let about_truth = |effect: gosset_stats::Result<Effect>| {
            effect.ok().map(|effect| relative_about(effect, truth))
        };
        let plain = |by| about_truth(ttest(&y_t, &y_c, &inference(by), Variance::Unequal));
        let adjusted = |by| about_truth(cuped(&of_t, &of_c, &inference(by)));
        let of_ratio = |by| about_truth(cuped_ratio(&ratio_t, &ratio_c, &inference(by)));
        let superpopulation = LinOptions { superpopulation: true, ..LinOptions::default() };
        let lin = lin(&of_t, &of_c, &inference(Relative::Fieller), &superpopulation);
        let proportions = |method| {
            let test = || proportion_test(&y_t, &y_c, &Inference::default(), method).ok();
            let of_shares = (world.shape == Shape::Binary).then(test).flatten();
            of_shares.map(|effect| about(effect, truth * world.shape.mean()))
        };
        [
            plain(Relative::Fieller),
            plain(Relative::Log),
            plain(Relative::Delta),
            adjusted(Relative::Fieller),
            adjusted(Relative::Log),
            adjusted(Relative::Delta),
            about_truth(lin),
            of_ratio(Relative::Fieller),
            of_ratio(Relative::Log),
            of_ratio(Relative::Delta),
            proportions(ProportionMethod::Wald),
            proportions(ProportionMethod::Score),
            proportions(ProportionMethod::AgrestiCaffo),
            proportions(ProportionMethod::Newcombe),
        ]
    });
    Found { experiments, coverage }
}
