//! Choosing among candidates.

use nettailor_domain::architecture::{CandidateScore, select};
use nettailor_domain::units::{Accuracy, Cost};
use proptest::prelude::*;

fn candidates() -> impl Strategy<Value = Vec<CandidateScore>> {
    let one = (0u64..6, 0u64..3, 190u64..=200);
    proptest::collection::vec(one, 0..10).prop_map(|all| {
        let score = |(k, (flops, params, correct))| CandidateScore {
            k,
            cost: Cost { flops, params },
            held_out: Accuracy { correct, total: 200 },
        };
        all.into_iter().enumerate().map(score).collect()
    })
}

proptest! {
    #[test]
    fn the_least_cost_among_those_that_qualify(candidates in candidates(), teacher in 190u64..=200) {
        // 200 samples and a tolerance of half a point: one more error than the teacher is allowed.
        let chosen = select(&candidates, Accuracy { correct: teacher, total: 200 }, 0.005);
        let Some(chosen) = chosen else {
            prop_assert!(candidates.is_empty());
            return Ok(());
        };
        let of = |k: usize| candidates.iter().find(|c| c.k == k).expect("one of the candidates");
        let qualifying: Vec<_> = candidates.iter().filter(|c| c.held_out.correct + 1 >= teacher).collect();
        prop_assert_eq!(chosen.qualified, !qualifying.is_empty());
        let taken = of(chosen.k);
        let least = qualifying.iter().map(|c| (c.cost.flops, c.cost.params, 200 - c.held_out.correct)).min();
        match least {
            Some(least) => {
                prop_assert!(taken.held_out.correct + 1 >= teacher);
                prop_assert_eq!((taken.cost.flops, taken.cost.params, 200 - taken.held_out.correct), least);
            }
            None => {
                let most = candidates.iter().map(|c| c.held_out.correct).max();
                prop_assert_eq!(Some(taken.held_out.correct), most);
                let among = candidates.iter().filter(|c| Some(c.held_out.correct) == most);
                let least = among.map(|c| (c.cost.flops, c.cost.params)).min();
                prop_assert_eq!(Some((taken.cost.flops, taken.cost.params)), least);
            }
        }
        // The order in which candidates finish decides nothing.
        let mut reversed = candidates.clone();
        reversed.reverse();
        prop_assert_eq!(Some(chosen), select(&reversed, Accuracy { correct: teacher, total: 200 }, 0.005));
    }
}

#[test]
fn the_threshold_is_reported() {
    let candidate = CandidateScore {
        k: 4,
        cost: Cost::default(),
        held_out: Accuracy {
            correct: 90,
            total: 100,
        },
    };
    let chosen = select(
        &[candidate],
        Accuracy {
            correct: 96,
            total: 100,
        },
        0.01,
    )
    .expect("one candidate");
    assert_eq!((chosen.k, chosen.qualified), (4, false));
    assert!((chosen.threshold - 0.95).abs() < 1e-12);
}
