//! What can happen to a simulated cluster.

use proptest::prelude::*;

/// Something that the outside does. Numbers are reduced to what there is.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Submit {
        variant: u8,
    },
    Cancel {
        job: u8,
    },
    Connect {
        agent: u8,
    },
    /// The stream breaks; the coordinator is told.
    Break {
        agent: u8,
    },
    /// The stream breaks and nobody tells the coordinator.
    Vanish {
        agent: u8,
    },
    /// The agent dies with everything that it runs and remembers.
    Crash {
        agent: u8,
    },
    Drain {
        agent: u8,
    },
    Heartbeat {
        agent: u8,
    },
    /// A trainer ends.
    End {
        agent: u8,
        which: u8,
        how: u8,
    },
    /// A report is sent; it stays until it is acknowledged.
    Report {
        agent: u8,
        which: u8,
    },
    /// An old report is sent again.
    Repeat {
        agent: u8,
        which: u8,
    },
    Pass {
        millis: u64,
    },
    /// The coordinator stands still.
    Stall {
        seconds: u8,
    },
    /// The coordinator dies before it carries out the effects of the last event.
    Restart,
}

/// One event; the ordinary ones more often than the faults.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let agent = 0..3u8;
    prop_oneof![
        3 => (0..8u8).prop_map(|variant| Op::Submit { variant }),
        1 => any::<u8>().prop_map(|job| Op::Cancel { job }),
        4 => agent.clone().prop_map(|agent| Op::Connect { agent }),
        1 => agent.clone().prop_map(|agent| Op::Break { agent }),
        1 => agent.clone().prop_map(|agent| Op::Vanish { agent }),
        1 => agent.clone().prop_map(|agent| Op::Crash { agent }),
        1 => agent.clone().prop_map(|agent| Op::Drain { agent }),
        2 => agent.clone().prop_map(|agent| Op::Heartbeat { agent }),
        12 => (agent.clone(), any::<u8>(), any::<u8>()).prop_map(|(agent, which, how)| Op::End { agent, which, how }),
        12 => (agent.clone(), any::<u8>()).prop_map(|(agent, which)| Op::Report { agent, which }),
        2 => (agent, any::<u8>()).prop_map(|(agent, which)| Op::Repeat { agent, which }),
        3 => (0..15_000u64).prop_map(|millis| Op::Pass { millis }),
        3 => (0..1_000u64).prop_map(|millis| Op::Pass { millis }),
        1 => (0..60u8).prop_map(|seconds| Op::Stall { seconds }),
        1 => Just(Op::Restart),
    ]
}
