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
    domain::Job,
    engine::{Change, FollowItem, JobFollow, JobWatch, WatchItem},
    proto::v1::{self, job_change, watch_jobs_response::Kind},
    quota::Held,
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
    _held: Held,
}

impl JobWatchStream {
    pub(super) fn new(watch: JobWatch, view: View, held: Held) -> Self {
        Self {
            course: Course::GoOn(watch),
            view,
            _held: held,
        }
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
    held: Held,
}

impl JobsWatch {
    pub(super) fn new(follow: JobFollow, view: View, held: Held) -> Self {
        Self { follow, view, held }
    }

    /// What it says.
    pub(crate) fn messages(self) -> BoxStream<'static, Result<v1::WatchJobsResponse, Fault>> {
        let Self { follow, view, held } = self;
        let begin = (Course::GoOn(follow), None);
        stream::unfold(begin, move |(course, telling)| async move {
            let mut follow = match course {
                Course::GoOn(follow) => follow,
                Course::Leave => return Some((Err(Fault::draining()), (Course::End, None))),
                Course::End => return None,
            };
            let telling: Telling = match telling {
                Some(telling) => telling,
                None => match follow.next().await? {
                    Ok(item) => item.into(),
                    Err(error) => return Some((Err(error.into()), (Course::End, None))),
                },
            };
            let last = matches!(telling.item, FollowItem::Draining { .. });
            let (message, telling) = telling.next_message(&follow, view);
            let course = if last {
                Course::Leave
            } else {
                Course::GoOn(follow)
            };
            Some((Ok(message), (course, telling)))
        })
        // It is one of those who watch for as long as it is there.
        .inspect(move |_| {
            let _ = &held;
        })
        .boxed()
    }
}

/// An item that is told: in one message, or in several if it is too large for one. Each is made when there is room for it, so that who does not read
/// holds one at the most; the jobs themselves are everybody's.
struct Telling {
    item: FollowItem,
    /// How many of its jobs or changes were told.
    told: usize,
}

impl From<FollowItem> for Telling {
    fn from(item: FollowItem) -> Self {
        Self { item, told: 0 }
    }
}

impl Telling {
    /// The next message, and what is left to be told.
    fn next_message(
        mut self,
        follow: &JobFollow,
        view: View,
    ) -> (v1::WatchJobsResponse, Option<Self>) {
        let message = |kind: Kind, changes, cursor| v1::WatchJobsResponse {
            kind: kind.into(),
            changes,
            cursor,
        };
        match &self.item {
            FollowItem::Listed(jobs) => {
                let part = part(&jobs[self.told..], |job| listed(job, view));
                self.told += part.len();
                let is_over = self.told >= jobs.len();
                let message = message(Kind::Listed, part, String::new());
                (message, (!is_over).then_some(self))
            }
            FollowItem::Changes { changes, cursor } => {
                let part = part(&changes[self.told..], |change| changed(change, view));
                self.told += part.len();
                let untold = &changes[self.told..];
                let cursor = match untold {
                    [] => cursor.clone(),
                    untold => follow.cursor_before(untold),
                };
                let is_over = untold.is_empty();
                let message = message(Kind::Changes, part, cursor);
                (message, (!is_over).then_some(self))
            }
            FollowItem::Synced { cursor } => {
                (message(Kind::Synced, Vec::new(), cursor.clone()), None)
            }
            FollowItem::Heartbeat { cursor } => {
                (message(Kind::Heartbeat, Vec::new(), cursor.clone()), None)
            }
            FollowItem::Draining { cursor } => {
                (message(Kind::Draining, Vec::new(), cursor.clone()), None)
            }
        }
    }
}

fn listed(job: &Job, view: View) -> v1::JobChange {
    v1::JobChange {
        r#type: job_change::Type::Upsert.into(),
        job_id: job.id.to_string(),
        job: Some(render::job(job, view)),
        from_revision: 0,
        revision: job.revision,
    }
}

fn changed(change: &Change, view: View) -> v1::JobChange {
    v1::JobChange {
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
    }
}

/// As many as fit a message: at least one, if there is any.
fn part<T>(untold: &[T], render: impl Fn(&T) -> v1::JobChange) -> Vec<v1::JobChange> {
    let mut room = Room::new();
    let rendered = untold.iter().map(render);
    rendered.take_while(|change| room.takes(change)).collect()
}
