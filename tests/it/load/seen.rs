//! How much of everything a run saw: one that saw little proves little.

use std::{collections::BTreeMap, fmt};

use longhaul::proto::v1::job_event::Type;

use super::{history::Fact, stream};

/// What has to be seen, how often at the least, and what it is.
type Least = (&'static str, usize, fn(&Fact) -> bool);

/// For a run of ordinary length on a slow machine.
const LEAST: [Least; 12] = [
    ("jobs", 15, |fact| matches!(fact, Fact::Acknowledged { .. })),
    ("calls without an answer", 5, |fact| {
        matches!(fact, Fact::Unanswered { .. })
    }),
    ("leases", 30, |fact| matches!(fact, Fact::Leased(_))),
    ("accepted reports by call", 2, |fact| {
        is_accepted(fact, false)
    }),
    ("accepted reports by stream", 5, |fact| {
        is_accepted(fact, true)
    }),
    ("refused reports", 1, |fact| {
        matches!(fact, Fact::Refused(_))
    }),
    ("leases that were lost", 1, is_lost),
    ("snapshots", 40, |fact| matches!(fact, Fact::Shown { .. })),
    ("watches that were disconnected", 5, |fact| {
        matches!(fact, Fact::Disconnected { .. })
    }),
    ("watches that went on", 5, |fact| {
        matches!(fact, Fact::Moved { .. })
    }),
    ("followers that were disconnected", 1, |fact| {
        matches!(fact, Fact::Unfollowed { .. })
    }),
    ("followed changes", 40, |fact| {
        matches!(fact, Fact::Told { .. })
    }),
];

fn is_accepted(fact: &Fact, by_stream: bool) -> bool {
    matches!(fact, Fact::Completed { hold, .. } if hold.holder.starts_with(stream::NAME) == by_stream)
}

fn is_lost(fact: &Fact) -> bool {
    let lost = Type::TaskLeaseLost;
    matches!(fact, Fact::Changed { kind, .. } if *kind == lost)
}

/// What was seen, in numbers.
pub struct Seen {
    counts: [(&'static str, usize, usize); LEAST.len()],
    /// Blows that were done, by their kind.
    blows: BTreeMap<String, usize>,
}

impl Seen {
    pub fn of(facts: &[Fact]) -> Self {
        let mut blows: BTreeMap<String, usize> = BTreeMap::new();
        for fact in facts {
            if let Fact::Struck {
                blow,
                is_over: true,
            } = fact
            {
                *blows.entry(kind(blow)).or_default() += 1;
            }
        }
        Self {
            counts: LEAST.map(|(what, least, is_it)| {
                let count = facts.iter().filter(|fact| is_it(fact)).count();
                (what, least, count)
            }),
            blows,
        }
    }

    /// Of what there was too little, if these blows were to be done; each is told with its name in front.
    pub fn lacks(&self, planned: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut blows: BTreeMap<String, usize> = BTreeMap::new();
        for blow in planned {
            *blows.entry(kind(&blow)).or_default() += 1;
        }
        let counts = self.counts.iter();
        let few = counts.filter(|(_, least, count)| count < least);
        let mut lacks: Vec<_> = few.map(|(what, ..)| (*what).to_owned()).collect();
        if blows != self.blows {
            lacks.push(format!("blows: {blows:?} were planned"));
        }
        lacks
    }
}

/// The first word of a blow.
fn kind(blow: &str) -> String {
    let word = blow.split_whitespace().next();
    word.unwrap_or_default().to_owned()
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, _, count) in self.counts {
            write!(f, "{count} {what}, ")?;
        }
        write!(f, "blows: {:?}", self.blows)
    }
}

#[test]
fn a_run_that_saw_nothing_lacks_everything() {
    let nothing = Seen::of(&[]).lacks(["Kill { node: 1 }".to_owned()]);
    assert_eq!(nothing.len(), LEAST.len() + 1, "{nothing:#?}");
    let begun = |is_over| Fact::Struck {
        blow: "Kill { node: 1 }".to_owned(),
        is_over,
    };
    let planned = || vec!["Kill { node: 2 }".to_owned()];
    let blows = |facts: &[Fact]| {
        let lacks = Seen::of(facts).lacks(planned());
        lacks.iter().any(|lack| lack.starts_with("blows"))
    };
    assert!(blows(&[begun(false)]));
    assert!(!blows(&[begun(false), begun(true)]));
    assert!(blows(&[begun(true), begun(true)]));
}
