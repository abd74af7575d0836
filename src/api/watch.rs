//! Watches of the engine as streams. No task and no queue for each: the stream is polled, and asks the engine.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt, stream, stream::BoxStream};

use super::{
    Fault,
    render::{self, View},
    room::Room,
};
use crate::{
    engine::{FollowItem, JobFollow, JobWatch, WatchItem},
    proto::v1::{self, job_change, watch_jobs_response::Kind},
};

/// What a stream does next.
enum Course<W> {
    GoOn(W),
    /// Say that the server goes, and end.
    Leave,
    End,
}

/// What `WatchJob` says, not yet as messages: front ends have forms of their own for a job that is encoded once.
pub(crate) struct JobWatchStream {
    course: Course<JobWatch>,
    /// How much of the job is wanted.
    pub(crate) view: View,
}

impl JobWatchStream {
    pub(super) fn new(watch: JobWatch, view: View) -> Self {
        let course = Course::GoOn(watch);
        Self { course, view }
    }
}

impl Stream for JobWatchStream {
    type Item = Result<WatchItem, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match &mut self.course {
            Course::GoOn(watch) => ready!(watch.poll_next(cx)),
            Course::Leave => {
                self.course = Course::End;
                return Poll::Ready(Some(Err(Fault::draining())));
            }
            Course::End => None,
        };
        // The watch is given up as soon as it has said its last word.
        match &item {
            Some(Ok(WatchItem::Draining { .. })) => self.course = Course::Leave,
            Some(Ok(WatchItem::Snapshot { is_final: true, .. }) | Err(_)) | None => {
                self.course = Course::End;
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(item.map(|item| item.map_err(Fault::from)))
    }
}

/// What `WatchJobs` follows.
pub(crate) struct JobsWatch {
    follow: JobFollow,
    view: View,
}

impl JobsWatch {
    pub(super) fn new(follow: JobFollow, view: View) -> Self {
        Self { follow, view }
    }

    /// What it says.
    pub(crate) fn messages(self) -> BoxStream<'static, Result<v1::WatchJobsResponse, Fault>> {
        let Self { follow, view } = self;
        stream::unfold(Course::GoOn(follow), move |course| async move {
            let mut follow = match course {
                Course::GoOn(follow) => follow,
                Course::Leave => return Some((vec![Err(Fault::draining())], Course::End)),
                Course::End => return None,
            };
            let item = match follow.next().await? {
                Ok(item) => item,
                Err(error) => return Some((vec![Err(error.into())], Course::End)),
            };
            let last = matches!(item, FollowItem::Draining { .. });
            let messages = follow_messages(item, &follow, view);
            let course = if last {
                Course::Leave
            } else {
                Course::GoOn(follow)
            };
            Some((messages.into_iter().map(Ok).collect(), course))
        })
        .flat_map(|messages: Vec<_>| stream::iter(messages))
        .boxed()
    }
}

/// An item as one message, or as several if it is too large for one.
fn follow_messages(item: FollowItem, follow: &JobFollow, view: View) -> Vec<v1::WatchJobsResponse> {
    let message = |kind: Kind, changes, cursor| v1::WatchJobsResponse {
        kind: kind.into(),
        changes,
        cursor,
    };
    match item {
        FollowItem::Listed(jobs) => {
            let listed = jobs.iter().map(|job| v1::JobChange {
                r#type: job_change::Type::Upsert.into(),
                job_id: job.id.to_string(),
                job: Some(render::job(job, view)),
                from_revision: 0,
                revision: job.revision,
            });
            parts(listed)
                .into_iter()
                .map(|part| message(Kind::Listed, part, String::new()))
                .collect()
        }
        FollowItem::Synced { cursor } => vec![message(Kind::Synced, Vec::new(), cursor)],
        FollowItem::Changes { changes, cursor } => {
            let told = changes.iter().map(|change| v1::JobChange {
                r#type: match (&change.job, change.matches) {
                    (None, _) => job_change::Type::Deleted,
                    (Some(_), true) => job_change::Type::Upsert,
                    (Some(_), false) => job_change::Type::Left,
                }
                .into(),
                job_id: change.key.job.to_string(),
                job: change.job.as_ref().map(|job| render::job(job, view)),
                from_revision: change.from_revision,
                revision: change.revision,
            });
            let mut untold = changes.as_slice();
            parts(told)
                .into_iter()
                .map(|part| {
                    untold = untold.get(part.len()..).unwrap_or_default();
                    let cursor = match untold {
                        [] => cursor.clone(),
                        untold => follow.cursor_before(untold),
                    };
                    message(Kind::Changes, part, cursor)
                })
                .collect()
        }
        FollowItem::Heartbeat { cursor } => {
            vec![message(Kind::Heartbeat, Vec::new(), cursor)]
        }
        FollowItem::Draining { cursor } => vec![message(Kind::Draining, Vec::new(), cursor)],
    }
}

/// As many as fit a message, and so on; at least one part, which may be empty.
fn parts(changes: impl Iterator<Item = v1::JobChange>) -> Vec<Vec<v1::JobChange>> {
    let mut room = Room::new();
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for change in changes {
        if !room.takes(&change) {
            parts.push(std::mem::take(&mut part));
            room = Room::new();
            room.takes(&change);
        }
        part.push(change);
    }
    parts.push(part);
    parts
}
