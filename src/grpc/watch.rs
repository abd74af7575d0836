//! Watches of the engine as streams of messages. No task and no queue for each: the stream is polled, and asks the engine.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use tonic::Status;

use super::{
    error::{self, status},
    frame::WatchFrame,
    render::{self, View},
};
use crate::{
    engine::{FollowItem, JobFollow, JobWatch, WatchItem},
    proto::v1::{
        self, job_change, watch_job_response::Kind, watch_jobs_response::Kind as FollowKind,
    },
};

/// What a stream does next.
enum Course<W> {
    GoOn(W),
    /// Say that the server goes, and end.
    Leave,
    End,
}

/// The stream of `WatchJob`.
pub struct WatchJobStream {
    course: Course<JobWatch>,
    view: View,
}

impl WatchJobStream {
    pub(super) fn new(watch: JobWatch, view: View) -> Self {
        let course = Course::GoOn(watch);
        Self { course, view }
    }
}

impl Stream for WatchJobStream {
    type Item = Result<WatchFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match &mut self.course {
            Course::GoOn(watch) => ready!(watch.poll_next(cx)),
            Course::Leave => {
                self.course = Course::End;
                return Poll::Ready(Some(Err(error::draining())));
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
        let view = self.view;
        Poll::Ready(item.map(|item| item.map(|item| frame(item, view)).map_err(status)))
    }
}

fn frame(item: WatchItem, view: View) -> WatchFrame {
    let bare = |kind: Kind, revision| {
        WatchFrame::bare(v1::WatchJobResponse {
            kind: kind.into(),
            from_revision: revision,
            revision,
            ..v1::WatchJobResponse::default()
        })
    };
    match item {
        WatchItem::Snapshot {
            version,
            from_revision,
            coalesced,
            is_final,
            reset,
        } => {
            let head = v1::WatchJobResponse {
                job: None,
                kind: Kind::Snapshot.into(),
                from_revision,
                revision: version.job.revision,
                coalesced,
                r#final: is_final,
                reset,
            };
            WatchFrame::snapshot(head, &version, view)
        }
        WatchItem::Synced { revision } => bare(Kind::Synced, revision),
        WatchItem::Heartbeat { revision } => bare(Kind::Heartbeat, revision),
        WatchItem::Draining { revision } => bare(Kind::Draining, revision),
    }
}

/// The stream of `WatchJobs`.
pub(super) fn jobs(
    follow: JobFollow,
    view: View,
) -> BoxStream<'static, Result<v1::WatchJobsResponse, Status>> {
    stream::unfold(Course::GoOn(follow), move |course| async move {
        let mut follow = match course {
            Course::GoOn(follow) => follow,
            Course::Leave => return Some((Err(error::draining()), Course::End)),
            Course::End => return None,
        };
        let item = match follow.next().await? {
            Ok(item) => item,
            Err(error) => return Some((Err(status(error)), Course::End)),
        };
        let last = matches!(item, FollowItem::Draining { .. });
        let course = if last {
            Course::Leave
        } else {
            Course::GoOn(follow)
        };
        Some((Ok(follow_message(item, view)), course))
    })
    .boxed()
}

fn follow_message(item: FollowItem, view: View) -> v1::WatchJobsResponse {
    let message = |kind: FollowKind, changes, cursor| v1::WatchJobsResponse {
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
            message(FollowKind::Listed, listed.collect(), String::new())
        }
        FollowItem::Synced { cursor } => message(FollowKind::Synced, Vec::new(), cursor),
        FollowItem::Changes { changes, cursor } => {
            let changes = changes.into_iter().map(|change| v1::JobChange {
                r#type: match (&change.job, change.matches) {
                    (None, _) => job_change::Type::Deleted,
                    (Some(_), true) => job_change::Type::Upsert,
                    (Some(_), false) => job_change::Type::Left,
                }
                .into(),
                job_id: change.key.job.to_string(),
                job: change.job.map(|job| render::job(&job, view)),
                from_revision: change.from_revision,
                revision: change.revision,
            });
            message(FollowKind::Changes, changes.collect(), cursor)
        }
        FollowItem::Heartbeat { cursor } => message(FollowKind::Heartbeat, Vec::new(), cursor),
        FollowItem::Draining { cursor } => message(FollowKind::Draining, Vec::new(), cursor),
    }
}
