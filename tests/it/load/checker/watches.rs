//! Watches of one job, and followers of all: what they were told, in the order in which they were told it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tonic::Code;

use super::{Fact, Fault, Stored, is_terminal};
use crate::load::history::Ending;

/// Where a watch is, as it was told.
#[derive(Default)]
struct Course<'a> {
    job: &'a str,
    revision: u64,
    ended: bool,
}

pub(super) fn check(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut courses: BTreeMap<usize, Course<'_>> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Shown {
                watch,
                job,
                from,
                to,
                coalesced,
                state,
                last,
            } => {
                let course = courses.entry(*watch).or_default();
                let tiles = *from == course.revision && to > from && *coalesced == to - from - 1;
                if !tiles || course.ended || *last != is_terminal(*state) {
                    let (watch, revision) = (*watch, *to);
                    faults.insert(Fault::Gap { watch, revision });
                }
                if *last && stored.get(job.as_str()) != Some(&(*state, *to)) {
                    faults.insert(Fault::EndChanged { job: job.clone() });
                }
                *course = Course {
                    job,
                    revision: *to,
                    ended: *last,
                };
            }
            Fact::Synced { watch, revision } => {
                let course = courses.entry(*watch).or_default();
                if course.revision != *revision || course.ended {
                    let (watch, revision) = (*watch, *revision);
                    faults.insert(Fault::Gap { watch, revision });
                }
            }
            Fact::Disconnected { watch, ending } if !is_lawful(ending) => {
                faults.insert(Fault::CutShort { watch: *watch });
            }
            Fact::Broken { watch, .. } => {
                courses.entry(*watch).or_default().ended = false;
                faults.insert(Fault::NoEnd { watch: *watch });
            }
            _ => {}
        }
    }
    for (watch, course) in courses {
        let beyond = stored
            .get(course.job)
            .is_some_and(|(_, revision)| course.revision > *revision);
        if beyond {
            let job = course.job.to_owned();
            faults.insert(Fault::EndChanged { job });
        }
        if !course.ended {
            faults.insert(Fault::NoEnd { watch });
        }
    }
}

/// Whether a server may end a stream so before its end.
fn is_lawful(ending: &Ending) -> bool {
    match ending {
        Ending::Broken(_) | Ending::Said(Code::Unavailable, _) => true,
        Ending::Said(..) | Ending::Wrong(_) => false,
    }
}

/// Ranges may be told again and overlap, because a cursor is older than the newest change that was told; but nothing may be left out.
pub(super) fn check_followers(facts: &[Fact], stored: &Stored<'_>, faults: &mut BTreeSet<Fault>) {
    let mut followers: BTreeMap<usize, HashMap<&str, u64>> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Followed { follower, .. } => drop(followers.entry(*follower).or_default()),
            Fact::Unfollowed { follower, ending } if !is_lawful(ending) => {
                let follower = *follower;
                faults.insert(Fault::LeftAlone { follower });
            }
            // Nothing here makes a cursor worthless: no database fails over, and none is restored.
            Fact::Relisted { follower } => {
                let follower = *follower;
                faults.insert(Fault::Relisted { follower });
            }
            Fact::Told {
                follower,
                job,
                from,
                to,
            } => {
                let known = followers
                    .entry(*follower)
                    .or_default()
                    .entry(job)
                    .or_default();
                if from > known {
                    let (follower, job, revision) = (*follower, job.clone(), *from);
                    faults.insert(Fault::Skipped {
                        follower,
                        job,
                        revision,
                    });
                }
                *known = (*known).max(*to);
            }
            _ => {}
        }
    }
    for (follower, known) in followers {
        for (&job, (_, revision)) in stored {
            if known.get(job) != Some(revision) {
                let job = job.to_owned();
                faults.insert(Fault::Missed { follower, job });
            }
        }
    }
}
